"""Promises that a class makes about its own methods.

A promise is a class attribute set to True. It covers the methods that the same class body defines:
a subclass that overrides one of them makes no promise about its own version unless it sets the
attribute again. So code that relies on a promise is right for every subclass, wherever it is
written.
"""


def promised(owner: object, promise: str, *methods: str) -> bool:
    """Whether every method comes from a class that makes the promise in its own body.

    Args:
      owner: a class, or an object; a function that the object itself holds promises nothing.
      promise: name of a class attribute.
      *methods: names of methods.

    Example:
      >>> class Parent:
      ...     is_exact = True
      ...     def count(self): ...
      >>> class Child(Parent):
      ...     def count(self): ...
      >>> promised(Parent, "is_exact", "count"), promised(Child, "is_exact", "count")
      (True, False)
    """
    kind = owner if isinstance(owner, type) else type(owner)
    own = {} if kind is owner else vars(owner)
    return all(method not in own and _owner(kind, method).get(promise, False) for method in methods)


def _owner(kind, method):
    """The body of the class that defines a method of `kind`."""
    return next((vars(owner) for owner in kind.__mro__ if method in vars(owner)), {})

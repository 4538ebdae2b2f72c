"""A page of HTML as a tree, read with the standard library alone."""

from html.parser import HTMLParser

VOID = {"meta", "link", "img", "br", "hr", "input"}


class Node:
    """An element: its tag, attributes, children (elements and texts) and parent."""

    def __init__(self, tag, attributes, parent=None):
        self.tag, self.attributes, self.parent, self.children = tag, dict(attributes), parent, []

    def __getitem__(self, name):
        return self.attributes.get(name, "")

    def all(self, *tags):
        """All elements below with one of these tags, in order; all elements without tags."""
        for child in self.children:
            if isinstance(child, Node):
                if not tags or child.tag in tags:
                    yield child
                yield from child.all(*tags)

    def first(self, tag):
        return next(self.all(tag))

    def by_id(self, name):
        return next(node for node in self.all() if node["id"] == name)

    @property
    def text(self):
        parts = (c if isinstance(c, str) else c.text for c in self.children)
        return "".join(parts)

    @property
    def parents(self):
        node = self.parent
        while node is not None:
            yield node
            node = node.parent


class _Reader(HTMLParser):
    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.root = self.here = Node("", ())

    def handle_starttag(self, tag, attrs):
        # The end of a cell may be left out.
        ends = {"td": {"td", "th"}, "tr": {"td", "th", "tr"}}.get(tag, set())
        while self.here.tag in ends and self.here.parent.tag not in ("thead", "tbody", "table"):
            self.here = self.here.parent
        if self.here.tag == tag == "tr":
            self.here = self.here.parent
        node = Node(tag, attrs, self.here)
        self.here.children.append(node)
        if tag not in VOID:
            self.here = node

    def handle_startendtag(self, tag, attrs):
        self.here.children.append(Node(tag, attrs, self.here))

    def handle_endtag(self, tag):
        node = self.here
        while node.tag != tag:
            node = node.parent
            assert node is not None, f"</{tag}> closes nothing"
        self.here = node.parent

    def handle_data(self, data):
        self.here.children.append(data)


def read(page: str) -> Node:
    reader = _Reader()
    reader.feed(page)
    reader.close()
    return reader.root

"""Members are whole configs; members that are alike but for arrays are one program."""

import json

import pytest

from bap_jax.config import default_config
from bap_jax.errors import UserError
from bap_jax.sweep.axes import parse_axis
from bap_jax.sweep.plan import check_one_program, check_some_read, make_members, make_programs

SWEPT = ("seed", "tolerance", "pruning.sparsity")


def members_of(*axes, config=None):
    return make_members(config or default_config(), [parse_axis(axis) for axis in axes])


def test_members_are_the_product():
    config = default_config().lock()
    members = members_of("tolerance=0,0.01", "seed=0:2", config=config)
    assert [member.label for member in members] == [
        "tolerance=0.0,seed=0",
        "tolerance=0.0,seed=1",
        "tolerance=0.01,seed=0",
        "tolerance=0.01,seed=1",
    ]
    assert members[3].overrides == {"tolerance": 0.01, "seed": 1}
    config.seed, config.tolerance = 1, 0.01
    assert members[3].plain == json.loads(config.to_json())


def test_the_config_stays_and_references_follow():
    config = default_config()
    config.dense.seed = config.get_oneway_ref("seed")
    members = members_of("seed=0:3", "model.hidden=(8,),(8,8)", config=config)
    assert [member.plain["dense"]["seed"] for member in members] == [0, 0, 1, 1, 2, 2]
    assert config.seed == config.dense.seed == 0 and config.model.hidden == (256, 256)
    assert members[1].overrides == {"seed": 0, "model.hidden": [8, 8]}


def test_names_are_files_and_tell_configs_apart():
    members = members_of("data.group_by='digit','digit,ink'", "model.hidden=(8,),(8,8)")
    names = [member.name for member in members]
    assert names[0].startswith("data.group_by=digit,model.hidden=8-")
    assert names[3].startswith("data.group_by=digit,ink,model.hidden=8x8-")
    assert len({name[-8:] for name in names}) == 4
    (wild,) = members_of("pruning.prunable='*/kernel'")
    assert wild.name.startswith("pruning.prunable=_/kernel".replace("/", "_"))
    (long,) = members_of(f"pruning.prunable={'k' * 300}")
    assert len(long.name) < 200


def test_a_mistake_names_the_member():
    with pytest.raises(
        UserError, match="member seed=0,method=dro of the sweep: unknown method 'dro'; known: nft"
    ):
        members_of("seed=0:2", "method=nft,dro")


@pytest.mark.parametrize(
    ("axes", "text"),
    [
        (("dual.learning_rate=0.1,0.3",), "'auto', .* Add --config.dual.rule=ascent, or leave"),
        (("method=nft,ceag", "dual.learning_rate=0.1,0.3"), "member method=ceag,dual.learning_r"),
        (("dual.rule=ascent,auto", "dual.learning_rate=1"), "member dual.rule=auto,dual.learning"),
        (("dual.penalty=1,2",), "dual.penalty has no effect: .* Add --config.dual.rule=augmented"),
        (("dual.rule=ascent", "dual.nu=0,0.5"), "'ascent', which does not .* Add .*=nu_pi, or"),
        (("dual.restart=true,false",), "dual.rule='auto' sets the speed of multipliers itself"),
    ],
)
def test_members_that_would_be_equal(axes, text):
    """The rule of the multipliers does not read the key."""
    with pytest.raises(UserError, match=text):
        members_of(*axes)


@pytest.mark.parametrize(
    "axes",
    [
        ("dual.rule=ascent,nu_pi", "dual.learning_rate=0.1,0.3", "dual.start=0,1"),
        ("dual.rule=augmented", "dual.penalty=1,2"),
        ("method=group_dro,group_dro_excess", "dual.learning_rate=0.1,0.3"),
        ("method=nft,penalty", "dual.penalty=1,2"),
        ("dual.rule=auto,ascent", "dual.bound=1,2", "dual.weight_limit=5,10"),
        ("method=tests.training.my_methods:floor_method", "dual.learning_rate=0.1,0.3"),
    ],
)
def test_members_that_may_differ(axes):
    members = members_of(*axes)
    assert len({json.dumps(member.plain) for member in members}) == len(members) > 1


def test_what_the_command_line_sets_is_read_by_some_member():
    keys = ["dual.learning_rate", "tolerance"]
    for axis in ("method=nft,ceag", "dual.rule=auto,ascent"):  # nft reads no rule
        check_some_read(keys, members_of(axis))
    check_some_read(keys, ())
    for axis in ("seed=0:2", "method=el,ceag", "dual.rule=augmented"):
        with pytest.raises(UserError, match="^dual.learning_rate has no effect: the multipliers"):
            check_some_read(keys, members_of(axis))


def test_programs_share_all_but_what_is_swept():
    members = members_of("seed=0:2", "method=nft,ceag", "pruning.sparsity=0.9,0.95")
    programs = make_programs(members, SWEPT)
    assert [len(program.members) for program in programs] == [4, 4]
    assert [program.members[0].plain["method"] for program in programs] == ["nft", "ceag"]
    seeds = [member.plain["seed"] for member in programs[0].members]
    assert seeds == [0, 0, 1, 1]  # the order of the members


def test_one_program_names_what_is_in_the_way():
    alike = make_programs(members_of("seed=0:2", "tolerance=0,1"), SWEPT)
    check_one_program(alike, SWEPT)
    several = make_programs(
        members_of("method=nft,ceag", "seed=0:2", "model.hidden=(8,),(8,8)"), SWEPT
    )
    with pytest.raises(
        UserError,
        match=r"needs 4 programs, because its members differ in method \(nft, ceag\); "
        r"model.hidden \(8, 8x8\). Leave out --one_program, "
        r"or vary only pruning.sparsity, seed, tolerance\.$",
    ):
        check_one_program(several, SWEPT)

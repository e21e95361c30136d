"""The command line of ``ticketd move``, ``check``, ``migrate`` and ``access``: what is said of a flag that is wrong."""

import pytest

from ticketd.config import STATUS_USAGE
from ticketd.tools import parse


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        # What is missing is not said before what is wrong.
        (["check", "--verbos"], 'ticketd check: error: there is no flag "--verbos"; see ticketd check --help'),
        (["check", "--hlep", "a"], 'ticketd check: error: there is no flag "--hlep"; did you mean --help?'),
        (["access", "add", "shop", "--rol=seller"], 'there is no flag "--rol"; did you mean --role?'),
        (["migrate", "--gant", "sales"], 'there is no flag "--gant"; did you mean --grant?'),
        (["move", "-v", "a", "b"], 'there is no flag "-v"; '),
        # Nothing of a value is shown: it may be a secret.
        (["access", "add", "--tokn=secret"], 'there is no flag "--tokn"; '),
    ],
)
def test_a_flag_that_does_not_exist_is_named(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(arguments)
    assert ended.value.code == STATUS_USAGE
    error = capsys.readouterr().err
    assert said in error
    assert "secret" not in error


def test_after_two_dashes_nothing_is_a_flag() -> None:
    assert parse(["check", "--", "-odd.db"]) == ["check", "-odd.db"]

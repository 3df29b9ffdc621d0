"""docs/world.md states the coefficients that the code uses."""

from pathlib import Path

from upnext.world import behaviour, expectation

PAGE = (Path(__file__).parents[3] / "docs" / "world.md").read_text().replace("−", "-")


def test_the_page_has_every_coefficient():
    coefficients = [
        expectation.CLICK_BASE,
        expectation.CLICK_TASTE,
        expectation.CLICK_QUALITY,
        abs(expectation.CLICK_LENGTH),
        expectation.FOREIGN,
        expectation.FOREIGN_ENGLISH,
        expectation.REPEATED_TOPIC,
        expectation.REPEATED_CREATOR,
        expectation.WATCHED_BEFORE,
        *expectation.EYE_DECAY,
        expectation.HOLD_TASTE,
        expectation.HOLD_QUALITY,
        expectation.HOLD_POWER,
        *(
            abs(number)
            for row in (behaviour.LIKE, behaviour.SHARE, behaviour.NOT_INTERESTED)
            for number in row
        ),
        abs(behaviour.STAY_BASE),
        behaviour.STAY_PLEASED,
        abs(behaviour.STAY_ANNOYED),
    ]
    missing = [number for number in coefficients if f"{number:g}" not in PAGE]
    assert not missing
    assert f"ln({expectation.HOLD_S:g}/*d*)" in PAGE

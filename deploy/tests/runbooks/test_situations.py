"""Each of the six situations of deploy/AT_NIGHT.md is solved by running the page's commands in order."""

import pytest
from blocks import run_block
from deployment import DEPLOY
from pages import blocks

PAGE = DEPLOY / "AT_NIGHT.md"
SITUATIONS = {
    "A customer's key stopped working": "customers_key",
    "The database is read-only": "read_only",
    "One replica is stale": "stale_replica",
    "The usage of a tenant looks wrong": "usage_wrong",
    "A leaked key is revoked, everywhere": "leaked_key",
    "The grace ends in ten minutes": "grace_of_ten_minutes",
}


def test_every_situation_has_a_state():
    assert list(dict.fromkeys(block.section for block in blocks(PAGE))) == list(SITUATIONS)


@pytest.mark.parametrize(("section", "situation"), SITUATIONS.items())
def test_page_solves_its_situation(section, situation, worlds):
    with worlds.at(situation) as world:
        for block in blocks(PAGE):
            if block.section == section:
                run_block(block, world)


@pytest.mark.parametrize("situation", ["to_restore"])
def test_restore_page_restores_the_database(situation, worlds):
    with worlds.at(situation) as world:
        restored = False
        for block in blocks(DEPLOY / "RESTORING.md"):
            if block.section == "Restore it" and not restored:
                restored = True
                world.databases[0].do("restore")
                for replica in world.replicas:
                    replica.says("NOT TRUSTED (rolled_back)")
            run_block(block, world)
        assert restored, "no section has the restore steps"
        # Keys revoked after the backup are denied, in the database too.
        (count,) = world.databases[0].sql("SELECT count(*) FROM api_keys WHERE revoked_at IS NOT NULL").splitlines()
        assert count == "1"

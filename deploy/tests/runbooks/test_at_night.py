"""Each of the six situations of deploy/AT_NIGHT.md is solved by running the page's commands in order."""

import pytest
from block_runner import run_block
from pages import blocks

from deployment import DEPLOY

PAGE = DEPLOY / "AT_NIGHT.md"
SITUATIONS = {
    "A customer's key stopped working": "key_revoked",
    "The database is read-only": "token_read_only",
    "One replica is stale": "stale_replica",
    "The usage of a tenant looks wrong": "usage_total_wrong",
    "A leaked key is revoked, everywhere": "leaked_key",
    "The grace ends in ten minutes": "grace_of_ten_minutes",
}


def test_every_situation_has_a_state():
    assert list(dict.fromkeys(block.section for block in blocks(PAGE))) == list(SITUATIONS)


@pytest.mark.parametrize(("section", "state"), SITUATIONS.items())
def test_page_solves_its_situation(section, state, testbeds):
    with testbeds.use(state) as testbed:
        for block in blocks(PAGE):
            if block.section == section:
                run_block(block, testbed)


@pytest.mark.parametrize("state", ["before_restore"])
def test_restore_page_restores_the_database(state, testbeds):
    with testbeds.use(state) as testbed:
        restored = False
        for block in blocks(DEPLOY / "RESTORING.md"):
            if block.section == "Restore it" and not restored:
                restored = True
                testbed.databases[0].command("restore")
                for replica in testbed.replicas:
                    replica.wait_for_status("NOT TRUSTED (rolled_back)")
            run_block(block, testbed)
        assert restored, "no section has the restore steps"
        # Keys revoked after the backup are denied, in the database too.
        (count,) = testbed.databases[0].sql("SELECT count(*) FROM api_keys WHERE revoked_at IS NOT NULL").splitlines()
        assert count == "1"

"""end to end: the page of a gateway that asks for tokens, in a browser."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, expect

from common.tokens import make_token, write_tokens
from tests.e2e.processes import Gateway, Site, wait_for
from tests.e2e.weights import ONE, stored, upload

READ, SHOWN_READ = make_token("read", 0.0)
ADMIN, SHOWN_ADMIN = make_token("admin", 0.0)


@pytest.fixture(scope="module")
def guarded(shared_site: Site) -> Gateway:
    file = shared_site.folder / "tokens.json"
    write_tokens(file, [READ, ADMIN])
    gateway = shared_site.start_gateway("--tokens", str(file))
    shared_site.spawn_worker("--name", "w-1")
    bearer = {"authorization": f"Bearer {SHOWN_READ}"}
    wait_for(lambda: gateway.ask("GET", "/status", **bearer).json["workers_count"], "the worker is there")
    body, content_type = upload(ONE, stored(ONE))
    admin = {"authorization": f"Bearer {SHOWN_ADMIN}", "content_type": content_type}
    assert gateway.ask("PUT", "/set_weights", body, **admin).json["message"] == "OK"
    return gateway


def test_a_page_shows_nothing_without_a_token_and_acts_by_the_one_that_may(
    chromium: Browser, guarded: Gateway
):
    with chromium.new_context() as context:
        page = context.new_page()
        page.goto(f"{guarded.url}/dashboard")
        dialog = page.locator("dialog[open]")
        expect(dialog).to_contain_text("This gateway asks who you are")
        page.get_by_role("button", name="Not now").click()
        expect(page.locator("#connection")).to_contain_text("No token")
        page.reload()
        for token, then in (("wrong", "does not know this token"), (SHOWN_READ, "")):
            page.get_by_role("textbox", name="Token").fill(token)
            page.get_by_role("button", name="Go on").click()
            if then:
                expect(dialog).to_contain_text(then)
        expect(page.locator("#connection")).to_contain_text("Live")
        expect(page.locator("#fleet-table")).to_contain_text("w-1")
        page.locator("#try-form").get_by_role("button", name="Send").click()
        expect(dialog).to_contain_text("This token may not do that")
        page.get_by_role("button", name="Not now").click()
        expect(page.locator("#connection")).to_contain_text("Live")
        page.locator("#try-form").get_by_role("button", name="Send").click()
        page.get_by_role("textbox", name="Token").fill(SHOWN_ADMIN)
        page.get_by_role("button", name="Go on").click()
        expect(page.locator("#try-form .badge")).to_be_visible()
        assert page.evaluate("Object.values(sessionStorage)") == [SHOWN_ADMIN]
        assert SHOWN_ADMIN not in page.evaluate(
            "JSON.stringify([document.cookie, {...localStorage}, location.href])"
        )


def test_the_page_of_the_interface_sends_a_token_and_shows_it_to_nobody(chromium: Browser, guarded: Gateway):
    with chromium.new_context() as context:
        page = context.new_page()
        page.goto(f"{guarded.url}/docs#status")
        page.get_by_label("Token").fill(SHOWN_READ)
        operation = page.locator("details#status")
        operation.get_by_role("button", name="Send").click()
        expect(operation).to_contain_text("200")
        assert "$PIPELINE_TOKEN" in operation.inner_text()
        assert SHOWN_READ not in page.locator("body").inner_text()

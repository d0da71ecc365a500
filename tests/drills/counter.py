"""A clerk at a counter: a real browser with the terminal's certificate, told what to do as JSON.

Run in a network namespace on the town's line and in a mount namespace of its own, since Chromium
reads which certificate to show from /etc. Prints as JSON what the clerk saw; pictures and the
certificate lie in the folder.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

import chromium

POLICIES = Path("/etc/chromium/policies/managed")
PAGE_SECONDS = PRINT_SECONDS = 30


def certified(home: Path, told: dict[str, Any]) -> None:
    """Give the browser the terminal's key, and trust in the gateway's authority."""
    store = f"sql:{home}/.pki/nssdb"
    bundle = home / "terminal.p12"
    (home / ".pki/nssdb").mkdir(parents=True)
    for argv in (
        ["certutil", "-d", store, "-N", "--empty-password"],
        ["certutil", "-d", store, "-A", "-n", "city", "-t", "C,,", "-i", told["authority"]],
        ["openssl", "pkcs12", "-export", "-passout", "pass:", "-inkey", f"{told['key']}.key",
         "-in", f"{told['key']}.crt", "-out", str(bundle)],
        ["pk12util", "-d", store, "-i", str(bundle), "-W", ""],
    ):  # fmt: skip
        subprocess.run(argv, check=True, capture_output=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/etc/chromium"], check=True)
    POLICIES.mkdir(parents=True)
    chosen = json.dumps({"pattern": told["url"], "filter": {}})
    policy = {"AutoSelectCertificateForUrls": [chosen], "AlwaysOpenPdfExternally": True}
    (POLICIES / "counter.json").write_text(json.dumps(policy), encoding="ascii")


class Clerk:
    """Works at the pages of the stand-in as a person does: reads, types, presses."""

    def __init__(self, folder: Path, url: str) -> None:
        """Open the browser at the gateway."""
        self.folder, self.url = folder, url
        self.chrome = chromium.started(
            chromium.options(folder / "profile", "--window-size=1280,1000")
        )
        self.chrome.set_page_load_timeout(60)
        # Without a screen nobody is asked where a file shall go.
        self.chrome.execute_cdp_cmd(
            "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(folder)}
        )

    def go(self, path: str) -> str:
        """Open a page, and return its text."""
        self.chrome.get(self.url + path)
        return self.text

    @property
    def text(self) -> str:
        """What stands on the page."""
        return str(self.chrome.find_element(By.TAG_NAME, "body").text)

    def picture(self, name: str) -> None:
        """Keep what is seen."""
        self.chrome.save_screenshot(str(self.folder / f"{name}.png"))

    def form(self, word: str) -> WebElement:
        """Return the form that has a word on it."""
        (found,) = (f for f in self.chrome.find_elements(By.TAG_NAME, "form") if word in f.text)
        return found

    def fill(self, word: str, **values: str) -> None:
        """Fill a form in and send it."""
        form = self.form(word)
        for name, value in values.items():
            form.find_element(By.NAME, name).send_keys(value)
        self.press(form.find_element(By.TAG_NAME, "button"))

    def press(self, what: WebElement) -> None:
        """Press a button or a link, and wait for the page that follows."""
        before = self.document()
        what.click()
        WebDriverWait(self.chrome, PAGE_SECONDS).until(
            lambda _: self.document() not in (before, None)
        )

    def document(self) -> float | None:
        """When the page that is seen began (ms), its one mark; None: it is not whole yet.

        The page is asked, not a node of the old one: if the pages change while a node is looked
        at, ChromeDriver fails instead of calling it stale (SeleniumHQ/selenium#15401).
        """
        script = "return document.readyState === 'complete' ? performance.timeOrigin : null"
        began: float | None = self.chrome.execute_script(script)
        return began

    def prints(self) -> Path:
        """Ask for the certificate; the page stays while it is made and kept."""
        form = self.form("証明書")
        form.find_element(By.NAME, "operator").send_keys("操作者一")
        form.find_element(By.TAG_NAME, "button").click()
        return self.printed()

    def printed(self) -> Path:
        """Wait for the certificate that was asked for."""
        end = time.monotonic() + PRINT_SECONDS
        # While it is written it has another name.
        while not (found := list(self.folder.glob("*.pdf"))):
            if time.monotonic() > end:
                sys.exit(f"no certificate within {PRINT_SECONDS} s: {self.text}")
            time.sleep(0.2)
        return found[0]


def main() -> None:
    """Search, open a register, file, approve, print."""
    told = json.loads(sys.argv[1])
    folder = Path(told["folder"])
    certified(folder, told)
    clerk = Clerk(folder, told["url"])
    try:
        seen = {"search": clerk.go("/")}
        clerk.fill("かな", kana=told["kana"])
        seen["found"] = clerk.text
        clerk.picture("1-search")
        clerk.press(clerk.chrome.find_element(By.CSS_SELECTOR, "td a"))
        register = clerk.chrome.current_url
        clerk.picture("2-register")
        clerk.fill(
            "名の変更", place="1", name=told["name"], kana=told["name_kana"], operator="操作者一"
        )
        seen["filed"] = clerk.text
        clerk.picture("3-filed")
        clerk.fill("決裁者", operator="操作者一")
        seen["alone"] = clerk.text
        clerk.go("/filings")
        clerk.fill("決裁者", operator="操作者二")
        seen["approved"] = clerk.text
        clerk.picture("4-approved")
        clerk.chrome.get(register)
        seen["certificate"] = clerk.prints().name
    finally:
        clerk.chrome.quit()
    print(json.dumps(seen, ensure_ascii=False))


if __name__ == "__main__":
    main()

"""Debian's Chromium by Debian's driver, without a screen and with nobody's profile."""

from __future__ import annotations

from pathlib import Path

from selenium.webdriver import Chrome, ChromeOptions, ChromeService

SWITCHES = (
    "--headless",
    "--no-sandbox",  # the tests run as root, in a container too
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def options(profile: Path, *more: str) -> ChromeOptions:
    """Return the options of a browser that asks nobody; profile: its own; more: switches."""
    found = ChromeOptions()
    found.binary_location = "/usr/bin/chromium"
    for switch in (*SWITCHES, f"--user-data-dir={profile}", *more):
        found.add_argument(switch)
    return found


def started(chosen: ChromeOptions) -> Chrome:
    """Start a browser; its driver is named, so that selenium looks for none in the network."""
    return Chrome(options=chosen, service=ChromeService("/usr/bin/chromedriver"))

"""Looks at the pages of run.sh in a headless browser, over its DevTools pipe: nothing but Python's own library.

    browse.py BROWSER DIRECTORY-OF-PAGES DIRECTORY-FOR-SCREENSHOTS [AXE-CORE]
"""

import base64
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SIZES = {"phone": (360, 780, True), "desktop": (1280, 900, False)}
PATIENCE = 60


class Browser:
    """A browser with one tab. Commands go over file descriptor 3, what it says comes over 4, each ended by a NUL."""

    def __init__(self, program, profile):
        to_read, self.to = os.pipe()
        self.back, back_write = os.pipe()
        # Whatever numbers the pipes have, the browser sees them as 3 and 4.
        shell = f'exec "$0" "$@" 3<&{to_read} 4>&{back_write}'
        flags = ["--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                 "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking", f"--user-data-dir={profile}"]
        self.process = subprocess.Popen(["bash", "-c", shell, program, *flags, "about:blank"], pass_fds=(to_read, back_write),
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(to_read)
        os.close(back_write)
        self.unread, self.number, self.events, self.session = b"", 0, [], None
        targets = self.call("Target.getTargets")["targetInfos"]
        tab = next(target["targetId"] for target in targets if target["type"] == "page")
        self.session = self.call("Target.attachToTarget", targetId=tab, flatten=True)["sessionId"]
        for domain in ["Page", "Runtime", "Log", "Network"]:
            self.call(f"{domain}.enable")

    def message(self, deadline):
        while b"\0" not in self.unread:
            if not select.select([self.back], [], [], max(0, deadline - time.monotonic()))[0]:
                raise SystemExit("html: the browser says nothing")
            more = os.read(self.back, 1 << 20)
            if not more:
                raise SystemExit("html: the browser went away")
            self.unread += more
        message, _, self.unread = self.unread.partition(b"\0")
        return json.loads(message)

    def call(self, method, **params):
        self.number += 1
        command = {"id": self.number, "method": method, "params": params}
        if self.session:
            command["sessionId"] = self.session
        os.write(self.to, json.dumps(command).encode() + b"\0")
        deadline = time.monotonic() + PATIENCE
        while True:
            message = self.message(deadline)
            if message.get("id") == self.number:
                if "error" in message:
                    raise SystemExit(f"html: {method}: {message['error']}")
                return message["result"]
            self.events.append(message)

    def wait(self, method):
        deadline = time.monotonic() + PATIENCE
        while not any(event.get("method") == method for event in self.events):
            self.events.append(self.message(deadline))

    def open(self, url):
        """Loads a page; what happened meanwhile is in `events`."""
        self.call("Page.navigate", url="about:blank")
        self.call("Runtime.evaluate", expression="0")
        self.events.clear()
        self.call("Page.navigate", url=url)
        self.wait("Page.loadEventFired")

    def eval(self, expression):
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in result:
            raise SystemExit(f"html: {expression}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def promised(self, expression):
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise SystemExit(f"html: {expression[:60]}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def look(self, width, height, mobile, scheme):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def shot(self, path, whole):
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
        path.write_bytes(base64.b64decode(data))

    def close(self):
        os.close(self.to)
        self.process.terminate()
        self.process.wait()


failures = []


def check(holds, what):
    if not holds:
        failures.append(what)
        print(f"html: FAILED: {what}", file=sys.stderr)


def quiet(browser, name, url):
    """No script of a row ran, nothing was loaded, nothing was refused by the policy: there was nothing to refuse."""
    title = browser.eval("document.title")
    check("OWNED" not in title.split(":")[0] and title.endswith(": llbatch report"), f"{name}: the title is {title!r}")
    check(browser.eval("typeof window.OWNED") == "undefined", f"{name}: a script of a row ran")
    check(browser.eval("document.images.length + document.scripts.length") == 1, f"{name}: one script, no image")
    asked = [e["params"]["request"]["url"] for e in browser.events if e.get("method") == "Network.requestWillBeSent"]
    check([u for u in asked if u.split("#")[0] != url.split("#")[0]] == [], f"{name}: asked for {asked}")
    said = [e["params"] for e in browser.events if e.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled")]
    check(not said, f"{name}: the browser complains: {said}")


# Figures of tiles that take more than one line, or more room than their tile has.
BROKEN = ("[...document.querySelectorAll('.tile .value')].filter((v) => v.offsetHeight > 1.5 * parseFloat("
          "getComputedStyle(v).lineHeight) || v.scrollWidth > v.clientWidth).map((v) => v.textContent)")
# Ids that are squeezed into a column of a few letters.
SQUEEZED = ("[...document.querySelectorAll('td.x:first-child')].filter((cell) => cell.offsetHeight > 6 * parseFloat("
            "getComputedStyle(cell).lineHeight)).map((cell) => cell.textContent)")
VISIBLE = "[...document.querySelectorAll('#failed .rows > li')].filter((row) => row.offsetHeight > 0).length"


def search(browser, name, url, shots):
    rows = browser.eval(VISIBLE)
    check(rows > 10, f"{name}: {rows} failed rows are shown")
    browser.eval("document.getElementById('search').focus()")
    browser.call("Input.insertText", text="500")
    found = browser.eval(VISIBLE)
    right = browser.eval("[...document.querySelectorAll('#failed .rows > li')].every((row) => row.hidden !== row.textContent.includes('500'))")
    check(0 < found < rows and right, f"{name}: the search shows {found} of {rows}")
    check(browser.eval("document.getElementById('shown').textContent") == f"{found} of {rows}", f"{name}: the count")
    browser.call("Input.insertText", text=" no such row")
    check(browser.eval(VISIBLE) == 0, f"{name}: nothing is found where nothing is")
    # A click on a code searches for it.
    browser.eval("document.querySelector('.errors a[href=\"#search=invalid_request\"]').click()")
    deadline = time.monotonic() + PATIENCE
    while browser.eval("document.getElementById('search').value") != "invalid_request" and time.monotonic() < deadline:
        time.sleep(0.02)
    found = browser.eval(VISIBLE)
    check(0 < found < rows, f"{name}: a click on a code shows {found}")
    browser.shot(shots / f"{name}-search.png", whole=False)
    browser.open(f"{url}#search=server_error")
    check(0 < browser.eval(VISIBLE) < rows, f"{name}: an address with a search")
    quiet(browser, name, url)
    # Without scripts there is no search, and everything else.
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    browser.open(url)
    check(browser.eval(VISIBLE) == rows, f"{name}: without scripts all rows are there")
    check(browser.eval("document.getElementById('tools').offsetHeight") == 0, f"{name}: without scripts no search box")
    browser.call("Emulation.setScriptExecutionDisabled", value=False)


# Each violation with its rule, and the places where it was found.
AXE = ("axe.run(document, {resultTypes: ['violations']}).then((found) => found.violations.map((violation) => "
       "violation.id + ': ' + violation.help + ' ' + violation.nodes.slice(0, 3).map((node) => node.target.join(' ') + "
       "' ' + (node.any[0] || node.all[0] || {message: ''}).message).join('; ')))")


def accessible(browser, name, where, axe):
    """axe-core finds nothing: names, roles, order of headings, contrast, tables, regions that scroll."""
    browser.eval(axe)
    found = browser.promised(AXE)
    check(found == [], f"{name}: axe-core, {where}: {found}")


def page(browser, path, shots, axe):
    name, url = path.stem, path.as_uri()
    colours = set()
    for size, (width, height, mobile) in SIZES.items():
        for scheme in ["light", "dark"]:
            browser.look(width, height, mobile, scheme)
            browser.open(url)
            quiet(browser, name, url)
            wide = browser.eval("document.documentElement.scrollWidth")
            check(wide <= width, f"{name}: {wide} wide on a {size} of {width}")
            broken = browser.eval(BROKEN)
            check(broken == [], f"{name}: figures broken on a {size}: {broken}")
            squeezed = browser.eval(SQUEEZED)
            check(squeezed == [], f"{name}: ids squeezed on a {size}: {squeezed}")
            colours.add((scheme, browser.eval("getComputedStyle(document.body).backgroundColor")))
            browser.shot(shots / f"{name}-{size}-{scheme}.png", whole=False)
            if axe:
                accessible(browser, name, f"{size}, {scheme}", axe)
    check(len(colours) == 2 and len({colour for _, colour in colours}) == 2, f"{name}: light and dark are {colours}")
    if name in ("realtime", "batch"):
        browser.look(*SIZES["desktop"], "light")
        browser.open(url)
        search(browser, name, url, shots)
    for size in SIZES:
        browser.look(*SIZES[size], "light")
        browser.open(url)
        browser.eval("document.querySelectorAll('.rows li:nth-child(n+6)').forEach((row) => row.remove())")
        high = browser.eval("document.documentElement.scrollHeight")
        browser.call("Emulation.setDeviceMetricsOverride", width=SIZES[size][0], height=high, deviceScaleFactor=1, mobile=SIZES[size][2])
        browser.shot(shots / f"{name}-{size}-whole.png", whole=True)


def main():
    program, pages, shots = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    axe = Path(sys.argv[4]).read_text() if len(sys.argv) > 4 else None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = Browser(program, profile)
        try:
            for path in sorted(pages.glob("*.html")):
                page(browser, path, shots, axe)
        finally:
            browser.close()
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()

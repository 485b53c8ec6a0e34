"""Notebook 11 in a real JupyterLab in a real browser: widgets live, keyboard enough, notes are text, grey is readable.

    pip install selenium            # and Debian's packages chromium and chromium-driver
    SCREENSHOTS=FOLDER python -m pytest tests/browser --no-cov

Skipped where selenium or chromium is absent. The server listens on the loopback only, with a token, on a copy of the
notebook and on notes made here, one of which tries to be a program.
"""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest

from nbutils import ROOT
from nbutils.corpus import Corpus, Document, Entity
from nbutils.corpus.formats import read_corpus, write_corpus

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
from selenium.common.exceptions import StaleElementReferenceException  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="chromium or chromedriver is absent")

EVIL = '<script>document.title = "owned"</script><img src=x onerror="document.title=\'owned\'"> & 発熱あり。\n'
LONG = "入院経過が長い。" * 40 + "\n"
FLAGS = """\
--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
--disable-component-update --disable-sync --force-color-profile=srgb --window-size=1400,1100
""".split()  # noqa: SIM905
SECONDS = 240  # for the slowest machine; a fast one takes a tenth of it


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder with a copy of the notebook whose study has few notes, so that the CRF learns in a second."""
    folder = tmp_path_factory.mktemp("lab")
    write_corpus(Corpus("CR", read_corpus(ROOT / "data" / "cr").documents[:12]), folder / "cr.xml")
    mine = list(read_corpus(ROOT / "data/examples/own_notes", "brat", meta="notes.csv", discontinuous="cover"))
    start = EVIL.index("発熱")
    evil = Document(
        "evil", EVIL + LONG * 3, (Entity(start, start + 2, "Disease"),), {"case": "<b>x</b>", "physician": "sato"}
    )
    write_corpus(Corpus("MINE", (evil, *mine)), folder / "mine", "brat")
    (folder / "study.yaml").write_text(
        f"corpora:\n  CR: {{path: {folder}/cr.xml}}\n  MINE: {{path: {folder}/mine, format: brat, meta: notes.csv, "
        "labels_as: {Disease: d, Symptom: d}}\n"
        "train: [CR]\nevaluate: [CR, MINE]\nseeds: [0]\nsystems:\n  crf: {iterations: 30, title: A CRF}\n"
        "  second: {kind: crf, iterations: 5, title: A hasty CRF}\n",
        encoding="utf-8",
    )
    notebook = json.loads((ROOT / "notebooks/11_your_own_notes.ipynb").read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        source = source.replace("studies/own_notes.yaml", str(folder / "study.yaml")).replace(
            '"runs"', f'"{folder}/runs"'
        )
        cell["source"] = source.replace(
            "run = study.execute(plan, system, train,", "runs_ = [study.execute(plan, s, train,"
        )
        if "runs_ = [" in cell["source"]:
            cell["source"] = cell["source"].removesuffix(")") + ") for s in plan.systems]"
    (folder / "own.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def server(workplace):
    """JupyterLab on a free port of the loopback, stopped at the end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    token = secrets.token_hex(16)
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1", f"--port={port}", "--allow-root",
               f"--notebook-dir={workplace}", f"--IdentityProvider.token={token}", 
               "--expose-app-in-browser"]  # fmt: skip
    home = workplace / "home"  # settings of the person who runs this play no part
    home.mkdir()
    env = os.environ | {
        "PYTHONPATH": str(ROOT),
        "HOME": str(home),
        "JUPYTER_PLATFORM_DIRS": "1",
        "OMP_NUM_THREADS": "1",
    }
    with open(workplace / "server.log", "wb") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(SECONDS):
            with suppress(OSError):
                urllib.request.urlopen(f"{url}/api/status?token={token}", timeout=5).close()
                break
            assert process.poll() is None, (workplace / "server.log").read_text()
            time.sleep(1)
        yield f"{url}/lab/tree/own.ipynb?reset&token={token}"
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in [*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"]:
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def lab(driver, server, shots):
    """The notebook opened and run from top to bottom, scrolled to the browser of notes."""
    driver.set_script_timeout(SECONDS)
    driver.get(server)
    wait = WebDriverWait(driver, SECONDS)
    panel = "jupyterapp.shell.currentWidget"
    wait.until(lambda d: d.execute_script(f"return !!(window.jupyterapp && {panel}?.content?.widgets)"))
    wait.until(lambda d: d.execute_script(f"return !!{panel}.sessionContext?.session?.kernel"))
    command(driver, "notebook:run-all-cells")
    cell = f"{panel}.content.widgets.findIndex(c => c.model.sharedModel.source.includes('browser.browser'))"
    driver.execute_script(f"{panel}.content.activeCellIndex = {cell}")
    driver.execute_async_script(f"{panel}.content.scrollToItem({cell}, 'start').then(arguments[0], arguments[0])")
    wait.until(lambda d: d.find_elements(By.CSS_SELECTOR, ".note-page"))
    time.sleep(2)
    shots("lab")
    return driver


@pytest.fixture(scope="module")
def shots(driver, tmp_path_factory):
    folder = Path(os.environ.get("SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    folder.mkdir(parents=True, exist_ok=True)

    def shot(name):
        driver.save_screenshot(str(folder / f"{name}.png"))

    return shot


def command(driver, name):
    """Run one of JupyterLab's own commands and wait for its end."""
    driver.execute_async_script(
        f"jupyterapp.commands.execute('{name}').then(() => arguments[0](), () => arguments[0]())"
    )


def menu(driver, name):
    """The select element beside this label, as a person finds it."""
    path = f"//label[normalize-space()='{name}']/following-sibling::select"
    return driver.find_element(By.XPATH, path)


def chosen(driver, name):
    return menu(driver, name).get_property("value"), menu(driver, name).get_property("selectedIndex")


def page(driver):
    return driver.find_element(By.CSS_SELECTOR, ".note-page")


def until(driver, condition):
    """Wait for it; the page may be replaced while it is looked at."""
    stale = [StaleElementReferenceException]
    WebDriverWait(driver, 60, ignored_exceptions=stale).until(lambda d: condition())


def open_note(driver, id):
    select = menu(driver, "note")
    for option in select.find_elements(By.TAG_NAME, "option"):
        if option.text.startswith(id):
            option.click()
    until(driver, lambda: page(driver).text.startswith(id))


def press(driver, label):
    driver.find_element(By.XPATH, f"//button[normalize-space()='{label}']").send_keys(Keys.SPACE)


def test_every_cell_of_the_notebook_ran(lab):
    bad = lab.execute_script(
        "return jupyterapp.shell.currentWidget.content.widgets.filter(c => c.model.type === 'code')"
        ".flatMap(c => c.model.sharedModel.outputs).filter(o => o.output_type === 'error').map(o => o.evalue)"
    )
    assert bad == []


def test_a_note_that_tries_to_be_a_program_is_text(lab, shots):
    open_note(lab, "evil")
    shots("evil")
    assert "owned" not in lab.title
    assert not page(lab).find_elements(By.CSS_SELECTOR, "script, img, b b")
    assert EVIL.strip() in page(lab).text.replace("⟦", "").replace("⟧", "")
    assert "<b>x</b>" in page(lab).text


def focus_by_tab(driver, element, start):
    """Go on with Tab from one control until another one has the focus; a person gives up after twenty."""
    start.send_keys(Keys.TAB)
    for _ in range(20):
        active = driver.switch_to.active_element
        if active == element:
            return active
        active.send_keys(Keys.TAB)
    raise AssertionError("Tab does not lead there")


def test_the_keyboard_alone_goes_to_the_next_note(lab, shots):
    open_note(lab, "mori_pneumonia")
    button = focus_by_tab(lab, lab.find_element(By.XPATH, "//button[contains(., 'next note')]"), menu(lab, "note"))
    focus = lab.execute_script(
        "const s = getComputedStyle(document.activeElement); return [s.outlineStyle, s.boxShadow, s.borderColor]"
    )
    assert focus[:2] != ["none", "none"]
    button.send_keys(Keys.SPACE)
    until(lab, lambda: page(lab).text.startswith("mori_stroke"))
    shots("keyboard")


def choose_by_keys(driver, name, *keys):
    """Open a menu with Space and choose with arrow keys and Enter; closed, JupyterLab takes the arrows for itself."""
    menu(driver, name).send_keys(Keys.SPACE)
    time.sleep(0.5)
    webdriver.ActionChains(driver).send_keys(*keys, Keys.ENTER).perform()


def test_space_arrows_and_enter_choose_a_physician(lab):
    choose_by_keys(lab, "physician", Keys.ARROW_DOWN)
    until(lab, lambda: chosen(lab, "physician")[1] == 1)
    until(lab, lambda: "of 4" in lab.find_element(By.TAG_NAME, "body").text)
    choose_by_keys(lab, "physician", Keys.ARROW_UP)
    until(lab, lambda: "of 9" in lab.find_element(By.TAG_NAME, "body").text)


@pytest.mark.parametrize("view", ["difference", "gold", "prediction", "side by side"])
def test_every_view_opens_by_the_space_bar(lab, shots, view):
    open_note(lab, "sato_stroke")
    press(lab, view)
    marks = {"difference": "border-bottom", "gold": "border-bottom", "prediction": "⟦", "side by side": "A hasty CRF"}
    until(lab, lambda: marks[view] in page(lab).get_attribute("innerHTML"))
    shots(view.replace(" ", "_"))


def test_a_long_note_stays_inside_the_page(lab, shots):
    press(lab, "difference")
    open_note(lab, "evil")
    width, room = lab.execute_script(
        "const p = document.querySelector('.note-page');"
        "return [p.scrollWidth, p.closest('.jp-OutputArea-output').clientWidth]"
    )
    assert width <= room
    shots("long")


def test_in_grey_the_kinds_differ_by_their_lines_and_brackets(lab, shots):
    open_note(lab, "sato_stroke")
    press(lab, "difference")
    lab.execute_script("document.documentElement.style.filter = 'grayscale(1)'")
    shots("grey")
    lab.execute_script("document.documentElement.style.filter = ''")
    lines = {
        title.split(":")[0]: lab.execute_script(
            "const all = [...document.querySelectorAll('.note-page span[title]')];"
            "const e = all.find(e => e.title.startsWith(arguments[0]));"
            "const s = getComputedStyle(e); return s.borderBottomStyle + ' ' + s.borderBottomWidth",
            title,
        )
        for title in ("found:", "missed:", "wrong:", "both,")
    }
    assert len(set(lines.values())) == 4 and lines["wrong"].startswith("none")


def test_without_a_kernel_the_page_still_shows_a_note(driver, workplace, shots, server, lab):
    command(lab, "docmanager:save")
    convert = [sys.executable, "-m", "nbconvert", "--to", "html", "own.ipynb"]
    subprocess.run(convert, cwd=workplace, check=True, capture_output=True, timeout=SECONDS)
    driver.execute_script("window.onbeforeunload = null")
    driver.get((workplace / "own.html").as_uri())
    assert "mori" in driver.find_element(By.TAG_NAME, "body").text or "evil" in driver.page_source
    assert "owned" not in driver.title
    legend = driver.find_elements(By.XPATH, "//p[contains(., 'missed: gold only')]")
    assert legend
    driver.execute_script("arguments[0].scrollIntoView({block: 'end'})", legend[-1])
    shots("static")

"""The page in a real browser: it runs under its own policy, asks for nothing, and what is selected is seen in both."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

pytest.importorskip("bokeh")
pytest.importorskip("websocket")

import report_documents as documents
from chromium import Browser, Page, find_browser

from diagnose import schema
from diagnose.reading import read
from diagnose.render.html import to_html

pytestmark = pytest.mark.skipif(find_browser() is None, reason="needs chromium")

ROOTS = "const [figure, table] = Bokeh.documents[0].roots();"
SELECTED = f"(() => {{ {ROOTS} return table.source.selected.indices; }})()"
# Where a point is on the screen, by the scales that drew it.
POINT = """(() => {{
  {roots} const view = Bokeh.documents[0].views_manager.get(figure), data = table.source.data;
  const box = document.getElementById("roofline").firstElementChild.getBoundingClientRect();
  const {{ x_scale, y_scale }} = view.frame;
  return [box.left + x_scale.compute(data.x[{index}]), box.top + y_scale.compute(data.y[{index}])];
}})()"""
CELLS = "document.getElementById('table').firstElementChild.shadowRoot.querySelectorAll('{selector}')"
DETAILS = "document.getElementById('details').innerText"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    found = find_browser()
    assert found is not None
    opened = Browser(found, tmp_path_factory.mktemp("chromium") / "profile")
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def page(browser: Browser) -> Page:
    return browser.page()


@pytest.fixture(autouse=True)
def _fresh(page: Page) -> None:
    page.resize(1400, 1000)
    page.prefer("light")


def opened(page: Page, folder: Path, document: schema.Document) -> Page:
    path = folder / "report.html"
    path.write_text(to_html(document), encoding="utf-8")
    page.open(path)
    assert page.ask("document.documentElement.dataset.ready") == "yes"
    return page


def clip_of(page: Page, element: str) -> dict[str, float]:
    """Its place on the whole page."""
    found = page.ask(
        f"(() => {{ const {{ x, y, width, height }} = document.getElementById('{element}').getBoundingClientRect();"
        "return { x: x + scrollX, y: y + scrollY, width, height }; })()"
    )
    return found | {"scale": 1}


def seen(page: Page, element: str) -> str:
    """What is drawn there."""
    page.settle()
    return page.call("Page.captureScreenshot", format="png", clip=clip_of(page, element))["data"]


def show(page: Page, element: str) -> None:
    page.ask(f"document.getElementById('{element}').scrollIntoView({{block: 'start', behavior: 'instant'}})")
    page.settle()


def shown_rows(page: Page) -> int:
    return page.ask(f"(() => {{ {ROOTS} return table.view.indices.count; }})()")


def choose(page: Page, field: str, value: str) -> None:
    page.ask(
        f"(() => {{ const field = document.getElementById('{field}'); field.value = '{value}';"
        "field.dispatchEvent(new Event('input', { bubbles: true })); })()"
    )
    page.settle()


@pytest.mark.parametrize("name", ["gpu", "cpu", "deviceless", "unknown_device", "hostile"])
@pytest.mark.parametrize("width", [1400, 400])
def test_opens_without_a_complaint_or_a_request(page: Page, tmp_path: Path, name: str, width: int) -> None:
    page.resize(width, 900)

    opened(page, tmp_path, getattr(documents, f"{name}_document")())

    assert page.complaints == []
    assert page.requests == [(tmp_path / "report.html").as_uri()]
    assert page.ask("document.documentElement.scrollWidth") == width, "nothing sticks out to the right"


def test_policy_refuses_what_is_not_the_page(page: Page, tmp_path: Path) -> None:
    """So that the test above means something: an injected script, handler, image and evaluation are refused."""
    opened(page, tmp_path, documents.gpu_document())

    page.ask(
        "(() => { const script = document.createElement('script'); script.textContent = 'window.caught = 1';"
        "document.body.append(script); const image = document.createElement('img');"
        "image.setAttribute('onerror', 'window.caught = 2'); image.src = 'https://example.invalid/a.png';"
        "document.body.append(image); })()"
    )
    page.settle()

    assert page.ask("window.caught") is None
    refused = " ".join(page.complaints)
    assert "script-src" in refused
    assert "img-src" in refused
    assert page.ask("(() => { try { return eval('1'); } catch (error) { return error.name; } })()") == "EvalError"


def test_selected_row_is_highlighted_in_the_picture(page: Page, tmp_path: Path) -> None:
    opened(page, tmp_path, documents.gpu_document())
    show(page, "roofline")
    before = seen(page, "roofline")

    show(page, "table")
    row = page.ask(f"(() => {{ const b = {CELLS.format(selector='.slick-row')}[2].getBoundingClientRect(); return [b.left + 90, b.top + 12]; }})()")  # fmt: skip # noqa: E501
    page.click(*row)

    assert page.ask(SELECTED) == [2]
    assert "flash_fwd_kernel" in page.ask(DETAILS)
    show(page, "roofline")
    assert seen(page, "roofline") != before


def test_selected_point_is_highlighted_in_the_table(page: Page, tmp_path: Path) -> None:
    opened(page, tmp_path, documents.gpu_document())
    show(page, "roofline")

    page.click(*page.ask(POINT.format(roots=ROOTS, index=1)))

    assert page.ask(SELECTED) == [1]
    selected = page.ask(f"[...{CELLS.format(selector='.slick-cell.selected')}].map((cell) => cell.innerText)")
    assert selected[0] == "2"
    assert "CUDAFunctor_add" in selected[1]
    assert "1.40 ms, 16 % of the kernel time" in page.ask(DETAILS)
    page.click(*page.ask(POINT.format(roots=ROOTS, index=1)))


def test_hover_says_work_efficiency_and_line(page: Page, tmp_path: Path) -> None:
    opened(page, tmp_path, documents.gpu_document())
    show(page, "roofline")

    page.hover(*page.ask(POINT.format(roots=ROOTS, index=0)))

    tips = "[...document.querySelectorAll('.bk-Tooltip')].map((tip) => tip.shadowRoot.textContent).join()"
    page.wait_for(f"{tips}.includes('gpt2.py:123')")
    assert "68.7 GFLOP, 83.9 MB" in page.ask(tips)
    assert "58 % of the roof" in page.ask(tips)


@pytest.mark.parametrize(
    ("field", "value", "kept"),
    [
        ("by-bound", "memory", 3), ("by-op", "mm", 2), ("by-module", "GPT2.h.0.mlp", 1), ("by-phase", "forward", 1),
        ("search", "FLASH", 1), ("search", "gpt2.py:123", 1), ("search", "no such kernel", 0),
    ],
)  # fmt: skip
def test_filter_leaves_its_rows_in_picture_and_table(
    page: Page, tmp_path: Path, field: str, value: str, kept: int
) -> None:
    opened(page, tmp_path, documents.gpu_document())

    choose(page, field, value)

    assert shown_rows(page) == kept
    assert page.ask("document.getElementById('count').textContent").startswith(f"{kept} of 10 kernels")
    assert len(page.ask(f"[...{CELLS.format(selector='.slick-row')}].map((row) => row.innerText)")) == kept
    page.ask("document.getElementById('filters').reset()")
    page.settle()
    assert shown_rows(page) == 10
    assert page.complaints == []


def test_dark_and_light_follow_the_system_and_the_button(page: Page, tmp_path: Path) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    mapped = f"(() => {{ {ROOTS} return [...Bokeh.documents[0].all_models].find((m) => m.name === 'colors').palette[0]; }})()"  # fmt: skip # noqa: E501
    opened(page, tmp_path, documents.gpu_document())
    light, light_points = page.ask(background), page.ask(mapped)

    page.prefer("dark")
    page.settle()
    dark, dark_points = page.ask(background), page.ask(mapped)
    page.ask("document.getElementById('theme').click()")

    assert light == "rgb(255, 255, 255)"
    assert max(map(int, dark[4:-1].split(", "))) < 50
    assert dark_points != light_points
    assert (page.ask(background), page.ask(mapped)) == (light, light_points)
    assert page.complaints == []


def test_code_of_a_finding_is_copied(page: Page, tmp_path: Path) -> None:
    finding = schema.Finding(
        rule="compile", bound="overhead", title="Compile", evidence={}, where=[], claims=[],
        recoverable_ns=schema.Interval(1, 2, 3), gap_ns=None, advice="```\nx = f(a < b)\n```", assumes="",
    )  # fmt: skip
    opened(page, tmp_path, msgspec.structs.replace(documents.gpu_document(), findings=[finding]))

    page.ask("document.querySelector('.copy').click()")
    page.settle()

    # Where the browser refuses the clipboard, the code is selected instead.
    told = page.ask("document.querySelector('.copy').textContent")
    assert told in ("copied", "press Ctrl+C")
    if told == "press Ctrl+C":
        assert page.ask("getSelection().toString().trim()") == "x = f(a < b)"


def test_paper_has_the_kernels_and_no_controls(page: Page, tmp_path: Path) -> None:
    opened(page, tmp_path, documents.gpu_document())

    page.call("Emulation.setEmulatedMedia", media="print")
    display = "getComputedStyle(document.querySelector('{}')).display"

    assert page.ask(display.format(".paper")) == "block"
    assert page.ask(display.format(".filters")) == page.ask(display.format("#table")) == "none"
    page.print(tmp_path / "report.pdf")
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
    page.call("Emulation.setEmulatedMedia", media="")


def test_paper_is_white_in_the_dark_and_the_screen_dark_again_after(page: Page, tmp_path: Path) -> None:
    page.prefer("dark")
    opened(page, tmp_path, documents.gpu_document())
    background = "getComputedStyle(document.body).backgroundColor"
    dark = page.ask(background)

    page.ask("dispatchEvent(new Event('beforeprint'))")
    assert page.ask(background) == "rgb(255, 255, 255)"
    page.ask("dispatchEvent(new Event('afterprint'))")

    assert page.ask(background) == dark


def many_kernels(count: int) -> schema.Document:
    """A report with two devices and ``count`` kernel rows."""
    chance = random.Random(1)
    rows = []
    for index in range(count):
        traffic, time_ns = int(10 ** chance.uniform(3, 9)), int(10 ** chance.uniform(3.3, 6.5))
        rows.append(
            documents.costed_kernel_of(
                f"void ns::elementwise_kernel<4, ns::Functor_{index}<c10::BFloat16>>(int)",
                f"aten::op_{index % 99}",
                time_ns,
                bound=chance.choice(["compute", "memory", "overhead"]),
                device=f"cuda:{index % 2}",
                flops=int(traffic * 10 ** chance.uniform(-2, 3)), bytes_accessed=traffic, roof_ns=time_ns * 0.5,
                signature=documents.signature_of([[chance.randrange(4096) for _ in range(3)]]),
                places=[documents.place_of(f"Model.layers.{index % 64}", f"/home/me/model.py:{index}", time_ns)],
            )
        )  # fmt: skip
    known = documents.gpu_document()
    other = [msgspec.structs.replace(row, device="cuda:1") for row in known.ceilings]
    return msgspec.structs.replace(known, kernels=documents.ranked(rows), ceilings=[*known.ceilings, *other])


def test_thousands_of_kernels_open_and_another_device_can_be_chosen(page: Page, tmp_path: Path) -> None:
    opened(page, tmp_path, many_kernels(5000))

    shown = page.ask("document.getElementById('by-device').value")
    assert shown_rows(page) == 2500
    choose(page, "by-device", "all")
    assert shown_rows(page) == 5000
    choose(page, "by-device", next(name for name in ("cuda:0", "cuda:1") if name != shown))
    assert shown_rows(page) == 2500
    assert page.complaints == []
    assert (tmp_path / "report.html").stat().st_size < 3e6


@pytest.mark.parametrize("name", ["b200_vllm_moe_tp8_rank0", "v100_resnet_ddp_rank0", "cpu_only_no_device"])
def test_page_of_a_real_trace_opens_without_a_complaint(page: Page, tmp_path: Path, trace_path, name: str) -> None:
    opened(page, tmp_path, read(trace_path(name)).document)

    assert page.complaints == []
    assert len(page.requests) == 1

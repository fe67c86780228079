"""The report and the figures: self-contained, harmless, repeatable, and true to predict()."""

from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from fits import (
    HOSTILE,
    doubtful_laws,
    hostile_laws,
    lawless_laws,
    plan_and_results,
    sound_laws,
    tiny_laws,
    untrusted_laws,
)

from flops_fit.quantities import format_count
from flops_fit.records import ExcludedRun
from flops_fit.reporting import save_figures, sections, summary_html, write_report
from flops_fit.reporting.canvas import figure_style, log_ticks, new_figure
from flops_fit.reporting.evidence import Table
from flops_fit.reporting.isoflop_figure import isoflop_figure
from flops_fit.reporting.law_figures import d_opt_figure, loss_figure, n_opt_figure
from flops_fit.reporting.sections import FigureItem, Section, TableItem


class Page(HTMLParser):
    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.text = [], [], ""
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, key, value) for key, value in attributes]

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def hostile_report(tmp_path_factory):
    laws = hostile_laws()
    plan, results = plan_and_results(laws)
    path = tmp_path_factory.mktemp("report") / "index.html"
    write_report(laws, path, plan=plan, results=results, provenance={"plan": "h4sh", HOSTILE: HOSTILE})
    return path.read_text()


def test_hostile_names_stay_text(hostile_report):
    page = Page(hostile_report)
    assert "script" not in page.tags
    assert not [key for _, key, _ in page.attributes if key.startswith("on")]
    assert HOSTILE in page.text


def test_the_report_loads_nothing_and_runs_nothing(hostile_report):
    page = Page(hostile_report)
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert ("meta", "content", policy) in page.attributes
    sources = [value for _, key, value in page.attributes if key == "src"]
    assert sources
    assert all(value.startswith("data:image/svg+xml;base64,") for value in sources)
    links = [value for tag, key, value in page.attributes if key == "href"]
    assert all(value.startswith(("../results/", "../runs/", "#")) for value in links)
    assert page.tags.count("img") == sum(
        1 for tag, key, value in page.attributes if tag == "img" and key == "alt" and value
    )


def test_every_run_is_in_the_report_with_its_files(hostile_report):
    laws = hostile_laws()
    for run in ("diverged-run", *laws.runs.source):
        assert f"<code>{run}</code>" in hostile_report
        assert f'href="../results/{run}.json"' in hostile_report
        assert f'href="../runs/{run}/"' in hostile_report
    assert "loss became NaN at step 7" in hostile_report


def test_rejected_pairs_are_counted_and_the_first_thirty_listed(hostile_report):
    assert "too large by 29" in hostile_report
    assert "too large by 30" not in hostile_report
    assert "40 pairs in all, of which the first 30 are listed" in hostile_report


def test_excluded_runs_and_findings_are_listed_with_their_codes(hostile_report):
    assert "<code>bad_row</code>" in hostile_report
    assert "<code>odd</code>" in hostile_report


def test_the_condition_of_each_run_is_listed(tmp_path):
    laws = sound_laws()
    laws = replace(laws, runs=replace(laws.runs, condition=("wide",) * len(laws.runs)))
    html = write_report(laws, tmp_path / "r.html").read_text()
    assert html.count("<td>wide</td>") == len(laws.runs)


def test_an_excluded_run_of_a_sweep_links_to_its_files(tmp_path):
    plan, results = plan_and_results(sound_laws())
    excluded = tuple(
        ExcludedRun(source=name, code="diverged", reason="loss became NaN") for name in ("diverged-run", "not-run")
    )
    laws = replace(sound_laws(), runs_excluded=excluded)
    html = write_report(laws, tmp_path / "r.html", plan=plan, results=results).read_text()
    listed = html[html.index('id="excluded"') : html.index('id="rejected"')]
    assert 'href="../results/diverged-run.json"' in listed
    assert "<code>not-run</code>" in listed
    assert "not-run.json" not in listed


def toy_figure(laws):
    figure = new_figure()
    figure.add_subplot().plot([1, 2], [3, 4])
    return figure


def toy_table(evidence):
    return Table(header=("toy",), rows=((f"{len(evidence.laws.runs)} toys",),))


def test_a_section_is_added_by_one_line_to_the_page_and_the_figures(tmp_path, monkeypatch):
    toy = Section(key="toy", title="Toy section", items=(FigureItem(key="toy", make=toy_figure, caption="A toy."),
                  TableItem(make=toy_table)))  # fmt: skip
    monkeypatch.setattr(sections, "SECTIONS", (toy,))
    page = Page(write_report(sound_laws(), tmp_path / "r.html").read_text())
    assert "Toy section" in page.text
    assert f"{len(sound_laws().runs)} toys" in page.text
    assert ("img", "alt", "A toy.") in page.attributes
    assert {p.name for p in save_figures(sound_laws(), tmp_path)} == {"toy.svg", "toy.png"}


@pytest.mark.parametrize(("if_empty", "is_shown"), [("", False), ("Nothing to show.", True)])
def test_a_section_with_nothing_to_show_says_so_or_is_left_out(tmp_path, monkeypatch, if_empty, is_shown):
    empty = Section(key="toy", title="Toy section", if_empty=if_empty, items=(TableItem(make=lambda evidence: None),))
    monkeypatch.setattr(sections, "SECTIONS", (empty,))
    text = Page(write_report(sound_laws(), tmp_path / "r.html").read_text()).text
    assert ("Toy section" in text) == is_shown
    assert if_empty in text


def test_keys_of_sections_and_of_figures_are_unique():
    for keys in ([s.key for s in sections.SECTIONS], [item.key for item in sections.figure_items()]):
        assert len(keys) == len(set(keys))


def test_a_rerun_is_byte_identical(tmp_path):
    first = write_report(sound_laws(), tmp_path / "a.html").read_bytes()
    second = write_report(sound_laws(), tmp_path / "b.html").read_bytes()
    assert first == second


def test_the_report_opens_with_the_prediction_for_ten_times_the_largest_budget(tmp_path):
    laws = sound_laws()
    p = laws.predict(10 * laws.max_compute)
    text = Page(write_report(laws, tmp_path / "r.html").read_text()).text
    opening = text[: text.index("Compute Budget")]
    for number in (format_count(p.num_params), format_count(p.num_tokens), f"{p.loss:.4g}"):
        assert number in opening
    for low, high in (p.num_params_interval, p.num_tokens_interval):
        assert f"[{format_count(low)}, {format_count(high)}]" in opening


@pytest.mark.parametrize("make", [lambda laws, path: write_report(laws, path / "r.html").read_text(),
                                  lambda laws, path: summary_html(laws)])  # fmt: skip
def test_the_page_and_the_notebook_begin_with_the_verdict_and_its_reasons(tmp_path, make):
    text = Page(make(untrusted_laws(), tmp_path)).text
    assert text.index("DO NOT USE") < text.index("few_budgets") < text.index("For reference only, the fit gives: with")
    assert text.index("For reference only") < text.index("Compute Budget")
    text = Page(make(doubtful_laws(), tmp_path)).text
    assert text.index("Use with care") < text.index("flat_valley") < text.index("Compute Budget")
    sound = replace(sound_laws(), findings=())
    text = Page(make(sound, tmp_path)).text
    assert text.index(sound.trust.headline) < text.index("Compute Budget")


def test_a_report_without_a_law_still_shows_the_runs(tmp_path):
    html = write_report(lawless_laws(), tmp_path / "r.html").read_text()
    assert "DO NOT USE" in html
    assert "run-000" in html


@pytest.mark.parametrize("laws", [sound_laws, tiny_laws])
@pytest.mark.parametrize(
    ("make", "quantity"), [(n_opt_figure, "num_params"), (d_opt_figure, "num_tokens"), (loss_figure, "loss")]
)
def test_the_drawn_line_passes_through_the_predictions(laws, make, quantity):
    with figure_style():
        axes = make(laws()).axes[0]
    line = next(item for item in axes.lines if item.get_gid() == "law")
    for compute, drawn in list(zip(*line.get_data(), strict=True))[::20]:
        # The same numbers go to both, once through exp(log(C)).
        assert drawn == pytest.approx(getattr(laws().predict(float(compute)), quantity), rel=1e-9)


def test_figures_are_saved_as_svg_and_png(tmp_path):
    paths = save_figures(tiny_laws(), tmp_path)
    assert {p.suffix for p in paths} == {".svg", ".png"}
    assert all(p.stat().st_size > 1000 for p in paths)
    assert {"isoflop", "n_opt", "d_opt", "loss", "residuals"} <= {p.stem for p in paths}


@pytest.mark.parametrize(("low", "high"), [(2e3, 2e5), (1e9, 1e12), (1e18, 3e22), (1e6, 2e6), (1.0, 1e40)])
def test_log_ticks_are_few_and_inside(low, high):
    ticks = log_ticks(low, high)
    assert 2 <= len(ticks) <= 7
    assert np.all(np.diff(ticks) > 0)


def test_a_few_far_losses_do_not_flatten_the_curves_and_are_counted():
    laws = sound_laws()
    far = laws.isoflop_curves[0]
    far = replace(far, loss=np.concatenate([far.loss[:-1], [50.0]]))
    with figure_style():
        axes = isoflop_figure(replace(laws, isoflop_curves=(far, *laws.isoflop_curves[1:]))).axes[0]
    assert axes.get_ylim()[1] < 10
    assert [text.get_text() for text in axes.texts if text.get_text().startswith("1 point above")]


def test_the_notebook_summary_has_a_table():
    assert "<table" in summary_html(sound_laws())


def test_budgets_of_one_size_are_no_curves_and_not_marked():
    laws = sound_laws()
    one = laws.isoflop_curves[0]
    loose = replace(one, num_params=one.num_params[:1], loss=one.loss[:1], in_window=one.in_window[:1],
                    coefficients=None, n_opt=None, d_opt=None, loss_opt=None, reason="only 1 sizes")  # fmt: skip
    with figure_style():
        figure = isoflop_figure(replace(laws, isoflop_curves=(loose, *laws.isoflop_curves[1:])))
    assert not [line for line in figure.axes[0].lines if line.get_marker() == "x"]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "budget of 1 or 2 sizes" in labels
    assert "1.00e18" not in labels


def test_a_curve_that_bends_downwards_gets_no_parabola():
    laws = sound_laws()
    bent = replace(laws.isoflop_curves[0], coefficients=(-1.0, 0.0, 3.0), n_opt=None, d_opt=None, loss_opt=None)
    with figure_style():
        before = isoflop_figure(laws).axes[0].lines
        after = isoflop_figure(replace(laws, isoflop_curves=(bent, *laws.isoflop_curves[1:]))).axes[0].lines
    assert sum(len(line.get_xdata()) == 80 for line in after) == sum(len(line.get_xdata()) == 80 for line in before) - 1

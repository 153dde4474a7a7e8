// Bokeh's models, made from the payload. Code is given to them as functions: Bokeh's own CustomJS evaluates text.
const BOUNDS = ["compute", "memory", "communication", "overhead", "none"];
const NUMBERS = new Set(["place", "time", "share", "calls", "efficiency", "rate_text", "gap"]);

class Plots {
  constructor(content) {
    const { Document } = Bokeh.require("document");
    this.doc = Document.from_json(content);
    [this.figure, this.table] = this.doc.roots();
    this.source = this.table.source;
    this.filter = this.table.view.filter;
    this.details = null; // come later: a page with thousands of kernels opens without waiting for their words
    this.narrow();
    this.giveCode();
    this.paint();
  }

  async draw() {
    await Bokeh.embed.add_document_standalone(this.doc, document.body, [byId("roofline"), byId("table")]);
    this.placeNames();
    this.figure.properties.inner_width.change.connect(() => this.placeNames());
  }

  all(name) {
    return [...this.doc.all_models].filter((model) => model.name === name);
  }

  giveCode() {
    for (const column of this.table.columns) {
      const { field } = column;
      column.formatter.doFormat = (_row, _cell, value, _column, item) => {
        const text = item[`${field}_text`] ?? value ?? "";
        const cell = make("div", NUMBERS.has(field) ? "cell number" : field === "line" || field === "op" ? "cell quiet" : "cell");
        if (field === "bound" || (field === "kernel" && this.isNarrow)) cell.append(make("i", `dot ${item.bound}`));
        cell.append(String(text));
        if (field === "kernel") cell.title = this.details?.[item.__bkdt_internal_index__].name ?? "";
        return cell.outerHTML;
      };
    }
    const [hover] = this.all("hover");
    hover.tooltips = (_source, { index }) => this.tip(index);
  }

  tip(index) {
    const detail = this.details?.[index] ?? { facts: [], reasons: [] };
    const list = make("dl", "");
    const rows = detail.facts.slice(0, 9);
    list.style.cssText = "display:grid;grid-template-columns:max-content 1fr;gap:1px 10px;margin:0";
    for (const [label, words] of rows) {
      const term = make("dt", "", label);
      term.style.opacity = "0.65";
      const value = make("dd", "", words);
      value.style.margin = "0";
      list.append(term, value);
    }
    const name = make("div", "", this.source.data.kernel[index]);
    name.style.cssText = "font-weight:600;margin-bottom:4px";
    const tip = make("div", "tip", name, list);
    tip.style.cssText = "max-width:360px;font-size:12px;line-height:1.45;overflow-wrap:anywhere";
    if (detail.reasons.length) tip.append(make("div", "", detail.reasons[0]));
    return tip;
  }

  // The colours of the theme in force, from the style sheet's variables.
  paint() {
    const ink = shade("ink"), soft = shade("soft"), grid = shade("grid");
    for (const axis of [...this.figure.below, ...this.figure.left]) {
      axis.setv({
        axis_line_color: shade("rule"), major_tick_line_color: shade("rule"), major_label_text_color: soft,
        axis_label_text_color: soft, axis_label_text_font_style: "normal", axis_label_text_font_size: "12px",
        major_label_text_font_size: "11px",
      });
    }
    for (const one of this.figure.center) if (one.type === "Grid") one.grid_line_color = grid;
    for (const [mapper] of [this.all("colors")]) mapper.palette = BOUNDS.map(shade);
    for (const [strip] of [this.all("strip")]) strip.fill_color = soft;
    for (const points of this.all("points")) {
      for (const glyph of [points.glyph, points.selection_glyph]) glyph.line_color = { value: glyph === points.glyph ? shade("mark-line") : ink };
      points.nonselection_glyph.line_color = { value: shade("mark-line") };
    }
    for (const roof of this.all("roof")) {
      roof.glyph.line_color = { value: shade(roof.tags[1] === "datasheet" ? "roof-sheet" : "roof") };
    }
    for (const name of this.all("roof name")) name.text_color = name.tags[1] === "strip" ? soft : { value: ink };
  }

  // A slope's name lies along it, whatever the picture's proportions; names are short where there is little room.
  placeNames() {
    const { x_range: x, y_range: y, inner_width: width, inner_height: height } = this.figure;
    const across = Math.log(x.end / x.start), up = Math.log(y.end / y.start);
    const angle = Math.atan2(height / up, width / across);
    for (const name of this.all("roof name")) {
      if (name.tags[1] === "slope") name.angle = { value: angle };
      if (name.tags[1] !== "strip") name.text = { field: width < 520 ? "short" : "text" };
    }
  }

  showRoofs(device) {
    for (const roof of [...this.all("roof"), ...this.all("roof name")]) roof.visible = ["", device].includes(roof.tags[0]);
  }

  // On a narrow screen the table keeps what a reader cannot do without. Headings stand over what they head.
  narrow() {
    const widths = new Map([["kernel", 165], ["time", 74], ["share", 58], ["efficiency", 74]]);
    const spared = new Set(innerWidth < 1000 ? ["calls", "line", "gap"] : []);
    this.isNarrow = innerWidth < 640;
    this.table.columns = this.table.columns.filter(({ field }) => (this.isNarrow ? widths.has(field) : !spared.has(field)));
    if (this.isNarrow) for (const column of this.table.columns) column.width = widths.get(column.field);
    const right = this.table.columns.flatMap(({ field }, index) =>
      (NUMBERS.has(field) ? [`.slick-header-column:nth-child(${index + 1}) .slick-column-name`] : []));
    this.table.stylesheets = [...this.table.stylesheets, `${right.join(",")} { float: right; }`];
    byId("table").style.height = `${Math.min(440, 34 + 26 * this.source.get_length())}px`;
  }

  keep(isKept) {
    this.filter.booleans = isKept;
  }
}

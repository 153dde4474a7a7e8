// The panel beside the picture: everything that is known of the selected kernel.
function pairs(rows) {
  const list = make("dl", "");
  for (const [label, words] of rows) list.append(make("dt", "", label), make("dd", "", words));
  return list;
}

function oneKernel(detail, manyDevices) {
  const parts = [make("h3", "", detail.name)];
  if (manyDevices) parts.push(make("p", "quiet", detail.device));
  if (detail.flags.length) parts.push(make("p", "", ...detail.flags.map((flag) => make("span", "chip", flag))));
  parts.push(pairs(detail.facts));
  if (detail.reasons.length) {
    parts.push(make("h4", "", "why it stands here"));
    parts.push(make("ul", "", ...detail.reasons.map((reason) => make("li", "", reason))));
  }
  if (detail.places.length) {
    parts.push(make("h4", "", "where it is called"));
    const head = make("tr", "", ...["module, line", "phase", "calls", "time"].map((text) => make("th", "", text)));
    const rows = detail.places.map(([module, line, phase, calls, time]) => {
      const where = make("td", "", [module, line].filter(Boolean).join(" · ") || "?");
      return make("tr", "", where, make("td", "", phase || ""), make("td", "number", calls), make("td", "number", time));
    });
    parts.push(make("table", "plain", head, ...rows));
    if (detail.more_places) parts.push(make("p", "quiet", `${detail.more_places} more places are in the JSON report`));
  }
  return parts;
}

function share(value) {
  return `${(100 * value).toFixed(value < 0.0995 ? 1 : 0)} %`;
}

function showDetails(plots, indices, manyDevices) {
  const panel = byId("details");
  if (!indices.length) {
    const words = "Nothing selected: click a point or a row, shift adds one. The kernel with most time:";
    panel.replaceChildren(make("p", "quiet", words), ...oneKernel(plots.details[0], manyDevices));
  } else if (indices.length === 1) {
    panel.replaceChildren(...oneKernel(plots.details[indices[0]], manyDevices));
  } else {
    const { share: shares, kernel } = plots.source.data;
    const total = indices.reduce((sum, index) => sum + Number(shares[index]), 0);
    const named = indices.slice(0, 15).map((index) => make("li", "", kernel[index]));
    const more = indices.length - named.length;
    if (more > 0) named.push(make("li", "quiet", `${more} more`));
    panel.replaceChildren(
      make("h3", "", `${indices.length} kernels, ${share(total)} of the kernel time`), make("ul", "", ...named),
    );
  }
}

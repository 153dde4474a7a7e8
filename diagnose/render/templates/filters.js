// Which rows the picture and the table show.
const MOST_CHOICES = 300;

function fill(select, values) {
  for (const value of values.slice(0, MOST_CHOICES)) {
    const option = make("option", "", value.length > 60 ? `…${value.slice(-58)}` : value);
    option.value = value;
    select.append(option);
  }
  if (!values.length) select.disabled = true;
}

// Distinct values, most time first, which is the order of the rows.
function distinct(rows) {
  return [...new Set(rows.flat().filter(Boolean))];
}

// A module and all that it holds.
const within = (module, chosen) => module === chosen || module.startsWith(`${chosen}.`);

class Filters {
  constructor(plots, payload) {
    this.plots = plots;
    this.payload = payload;
    const { bound, op } = plots.source.data;
    fill(byId("by-bound"), distinct([...bound]));
    fill(byId("by-op"), distinct([...op]));
    this.fillDevices();
    const form = byId("filters");
    form.addEventListener("input", () => this.apply());
    form.addEventListener("submit", (event) => event.preventDefault());
    // The fields are cleared after the event.
    form.addEventListener("reset", () => setTimeout(() => { this.chooseMain(); this.apply(); }));
  }

  // Modules, phases, and what the search looks through.
  learn(details) {
    const { op } = this.plots.source.data;
    this.details = details;
    this.texts = details.map((row, index) =>
      [row.name, op[index], ...row.modules, ...row.places.map((place) => place[1])].join("\n").toLowerCase());
    fill(byId("by-module"), distinct(details.map((row) => row.modules)));
    fill(byId("by-phase"), distinct(details.map((row) => row.phases)));
  }

  fillDevices() {
    const select = byId("by-device");
    if (!select) return;
    fill(select, this.payload.devices.map((device) => device.name));
    select.append(make("option", "", "all"));
    this.chooseMain();
  }

  chooseMain() {
    const select = byId("by-device");
    if (select) select.value = this.payload.devices.find((device) => device.shown)?.name ?? "all";
  }

  apply() {
    const { bound, op, share: shares } = this.plots.source.data;
    const [wantedBound, wantedOp, module, phase] = ["bound", "op", "module", "phase"].map((name) => byId(`by-${name}`).value);
    const device = byId("by-device")?.value ?? "all";
    const words = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const isKept = this.payload.device_of.map((deviceOf, index) =>
      (!wantedBound || bound[index] === wantedBound) && (!wantedOp || op[index] === wantedOp)
      && (device === "all" || this.payload.devices[deviceOf].name === device)
      && this.fits(index, module, phase, words));
    this.plots.keep(isKept);
    this.tell(isKept, shares);
    const chosen = this.payload.devices.find((one) => one.name === device) ?? this.payload.devices.find((one) => one.shown);
    if (chosen) this.plots.showRoofs(chosen.roofs);
  }

  fits(index, module, phase, words) {
    if (!module && !phase && !words.length) return true;
    const row = this.details?.[index];
    return Boolean(row) && (!module || row.modules.some((name) => within(name, module)))
      && (!phase || row.phases.includes(phase)) && words.every((word) => this.texts[index].includes(word));
  }

  tell(isKept, shares) {
    const count = isKept.filter(Boolean).length;
    const sum = (picked) => isKept.reduce((total, kept, index) => total + (kept && picked(index) ? Number(shares[index]) : 0), 0);
    byId("count").textContent = `${count} of ${isKept.length} kernels, ${share(sum(() => true))} of the kernel time`;
    const hidden = isKept.filter((kept, index) => kept && !this.payload.drawn[index]).length;
    const words = share(sum((index) => !this.payload.drawn[index]));
    byId("undrawn").textContent = hidden
      ? `Not in the picture: ${hidden} without work, or without known work, ${words} of the kernel time.` : "";
  }
}

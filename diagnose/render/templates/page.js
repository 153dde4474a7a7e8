// The page itself: theme, printing, copying; then the kernels.
const root = document.documentElement;
const darkSystem = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : darkSystem.matches);
let plots = null;

function themed() {
  byId("theme").textContent = isDark() ? "light" : "dark";
  plots?.paint();
}

byId("theme").addEventListener("click", () => {
  root.dataset.theme = isDark() ? "light" : "dark";
  themed();
});
darkSystem.addEventListener("change", themed);
// Paper is white, whatever the theme.
let onPaper = false;
let chosen;
function paper() {
  if (onPaper) return;
  onPaper = true;
  chosen = root.dataset.theme;
  root.dataset.theme = "light";
  themed();
}
function screen() {
  onPaper = false;
  if (chosen) root.dataset.theme = chosen;
  else delete root.dataset.theme;
  themed();
}
addEventListener("beforeprint", paper);
addEventListener("afterprint", screen);
byId("print").addEventListener("click", () => {
  paper();
  // Two frames: one to ask for the drawing, one for it to be there.
  requestAnimationFrame(() => requestAnimationFrame(() => window.print()));
});

async function copy(button) {
  const code = button.parentElement.querySelector("code");
  try {
    await navigator.clipboard.writeText(code.textContent);
    button.textContent = "copied";
  } catch {
    // Not allowed here: the text is selected, so that the usual keys copy it.
    getSelection().selectAllChildren(code);
    button.textContent = "press Ctrl+C";
  }
  setTimeout(() => { button.textContent = "copy"; }, 1500);
}
for (const button of document.querySelectorAll(".copy")) button.addEventListener("click", () => copy(button));

async function openKernels() {
  const payload = await unpack("payload");
  plots = new Plots(payload.plots);
  const filters = new Filters(plots, payload);
  filters.apply();
  await plots.draw();
  root.dataset.drawn = "yes";
  // Let the page be seen before the words of every kernel are read.
  await new Promise((done) => setTimeout(done));
  plots.details = await unpack("words");
  filters.learn(plots.details);
  const manyDevices = payload.devices.length > 1;
  const show = () => showDetails(plots, plots.source.selected.indices, manyDevices);
  plots.source.selected.properties.indices.change.connect(show);
  show();
}

themed();
if (byId("payload")) {
  openKernels().then(() => { root.dataset.ready = "yes"; }, (error) => {
    console.error(error);
    root.dataset.ready = "no";
    byId("count").textContent = "This browser could not draw the kernels; the printed table below has the first of them.";
    document.querySelector(".paper").style.display = "block";
  });
} else {
  root.dataset.ready = "yes";
}

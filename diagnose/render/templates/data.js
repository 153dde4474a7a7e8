// A data block holds JSON as gzip in base64. Names in it are a stranger's: they reach the page as text only.
async function unpack(id) {
  const packed = atob(byId(id).textContent.trim());
  const bytes = new Uint8Array(packed.length);
  for (let index = 0; index < packed.length; index += 1) bytes[index] = packed.charCodeAt(index);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

const byId = (id) => document.getElementById(id);

// An element with text and children; text is never markup.
function make(tag, name, ...children) {
  const element = document.createElement(tag);
  if (name) element.className = name;
  element.append(...children);
  return element;
}

const shade = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

// The server. Every failure becomes one sentence for people, and says whether trying again can help.

export class Failure extends Error {
  constructor(sentence, { reason = "", retry = false, service = false } = {}) {
    super(sentence);
    this.reason = reason;
    this.retry = retry;
    this.service = service;
  }
}

const KEPT = "Your images are still here: try again when it is back.";
const OURS = {
  SERVICE_UNAVAILABLE: `A service behind this page does not answer. ${KEPT}`,
  GALLERY_UNAVAILABLE: `The gallery's database does not answer. ${KEPT}`,
  SHUTTING_DOWN: `The service is restarting. ${KEPT}`,
  QUEUE_FULL: "The service is busy. Your images are still here: try again in a moment.",
  DEADLINE_EXCEEDED: "The service did not answer in time; it may be busy. Try again in a moment.",
  INTERNAL: "Something broke inside the service; its log says what. Trying again may help.",
};
const GONE = `This page's server does not answer. Is geofix still running? ${KEPT}`;

async function ask(path, init) {
  let response;
  try {
    response = await fetch(path, init);
  } catch {
    throw new Failure(GONE, { retry: true, service: true });
  }
  if (response.ok) return response.json();
  const problem = await response.json().catch(() => ({}));
  const ours = OURS[problem.reason];
  throw new Failure(ours ?? sentence(problem.detail || response.statusText || "The server refused"), {
    reason: problem.reason,
    retry: Boolean(ours),
    service: response.status === 503,
  });
}

function sentence(text) {
  const first = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(first) ? first : `${first}.`;
}

/** The answer for one image; without a search, and saying so, where only the search is away. */
export const locate = (blob) =>
  ask("/v1/locate?outlines=true&max_neighbors=24&max_cells=8&max_alternatives=8&allow_degraded=true", {
    method: "POST",
    headers: { "Content-Type": blob.type || "application/octet-stream" },
    body: blob,
  });

export const info = () => ask("/v1/info");
export const ready = () => ask("/readyz");
export const samples = () => ask("/v1/samples");

/** A sample as the file that it is. */
export async function sampleFile(sample) {
  const response = await fetch(sample.url).catch(() => null);
  if (!response?.ok) throw new Failure(GONE, { retry: true, service: true });
  const blob = await response.blob();
  return new File([blob], sample.name, { type: blob.type, lastModified: 0 });
}

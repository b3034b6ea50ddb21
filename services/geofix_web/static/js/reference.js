// The reference page: what /openapi.json says, in a form to read.

import { h, byId } from "./dom.js";

for (const id of ["origin", "origin2"]) byId(id).textContent = location.origin;
const api = await (await fetch("/openapi.json")).json();

function kind(schema = {}) {
  if (schema.$ref) return name(schema.$ref);
  const several = schema.anyOf ?? schema.allOf;
  if (several) return several.map(kind).filter((text) => text !== "null").join(" or ");
  if (schema.enum) return schema.enum.join(", ");
  if (schema.const) return schema.const;
  if (schema.type === "array") return `list of ${kind(schema.items)}`;
  return schema.type ?? "any";
}

const name = (reference) => reference.split("/").pop();
const table = (rows) => rows.length > 0 && h("table", {}, h("tbody", {}, rows.map((cells) => h("tr", {}, cells.map((cell) => h("td", {}, cell))))));

function operation(path, method, { description, summary, parameters = [], requestBody, responses }) {
  const rows = parameters.map((p) => [h("code", {}, p.name), kind(p.schema), p.description ?? p.schema?.description ?? ""]);
  const bodies = requestBody ? [["body", Object.keys(requestBody.content).join(", "), requestBody.description ?? ""]] : [];
  const answers = Object.entries(responses).map(([code, r]) => [code, Object.values(r.content ?? {}).map((c) => kind(c.schema)).join(", "), r.description]);
  return h("section", {}, h("header", {}, h("b", {}, method.toUpperCase()), h("h3", {}, h("code", {}, path))),
    h("p", {}, description ?? summary ?? ""), table([...bodies, ...rows]), table(answers));
}

byId("operations").replaceChildren(...Object.entries(api.paths).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, it]) => operation(path, method, it))));
byId("schemas").replaceChildren(...Object.entries(api.components.schemas).filter(([, schema]) => schema.properties).map(([title, schema]) =>
  h("section", {}, h("h3", {}, title), h("p", {}, schema.description ?? ""),
    table(Object.entries(schema.properties).map(([field, it]) => [h("code", {}, field), kind(it), it.description ?? ""])))));

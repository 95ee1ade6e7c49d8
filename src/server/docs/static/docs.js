"use strict";

// A separate file, because the pages' Content-Security-Policy does not allow inline scripts.

// An operation can have a dozen error responses. Swagger UI shows a whole example for each, which hides the success
// response. This plugin collapses them, so that each status takes a few lines until its example is opened.
const foldErrors = ({ React }) => ({
  wrapComponents: {
    response: (Response) =>
      function FoldedResponse(props) {
        const h = React.createElement;
        const [open, setOpen] = React.useState(false);
        if (Number(props.code) < 400) return h(Response, props);
        const Markdown = props.getComponent("Markdown", true);
        const fold = h(
          "button",
          { type: "button", className: "fold", "aria-expanded": open, onClick: () => setOpen(!open) },
          open ? "Hide example" : "Show example",
        );
        const folded = [
          h("td", { key: "status", className: "response-col_status" }, open ? null : props.code),
          h(
            "td",
            { key: "description", className: "response-col_description" },
            open ? null : h(Markdown, { source: props.response.get("description") }),
            fold,
          ),
        ];
        return h(
          React.Fragment,
          null,
          open ? h(Response, props) : null,
          h("tr", { className: `response ${props.className || ""}`, "data-code": props.code }, folded),
        );
      },
  },
});

// The description of an operation names its uncommon error codes, and the shared response of a status has an example for
// each code. This plugin links the page of each.
const linkErrors = ({ React }) => {
  const h = React.createElement;
  const link = (code) => `[\`${code}\`](/docs/errors/${code})`;
  const codesOf = (response) =>
    response.getIn(["content", "application/problem+json", "examples"])?.keySeq().toArray() ?? [];
  return {
    wrapComponents: {
      Markdown: (Markdown) =>
        function LinkedMarkdown(props) {
          const linked = (errors) => errors.replace(/`(\w+)`/g, (_, code) => link(code));
          return h(Markdown, { ...props, source: props.source?.replace(/^Errors: .*$/m, linked) });
        },
      response: (Response) =>
        function LinkedResponse(props) {
          const codes = codesOf(props.response);
          if (codes.length === 0) return h(Response, props);
          const described = `${props.response.get("description")} Codes: ${codes.map(link).join(", ")}.`;
          return h(Response, { ...props, response: props.response.set("description", described) });
        },
    },
  };
};

// Swagger UI's own filter compares the text with tags only, and ignores webhooks. This one searches methods, paths and
// summaries, and each word must match.
const filterOperations = ({ React }) => {
  const h = React.createElement;
  const matches = (phrase, parts) => {
    const text = parts.join(" ").toLowerCase();
    return phrase.toLowerCase().split(/\s+/).every((word) => text.includes(word));
  };
  // Without a filter, the setting is `true`.
  const phraseOf = (filter) => (typeof filter === "string" && filter !== "true" ? filter : "");
  const partsOf = (name, entry) => [name, entry.get("method"), entry.get("path"), entry.getIn(["operation", "summary"])];

  return {
    fn: {
      opsFilter: (tags, phrase) =>
        tags
          .map((group, tag) => group.update("operations", (all) => all.filter((it) => matches(phrase, partsOf(tag, it)))))
          .filter((group) => group.get("operations").size > 0),
    },
    wrapComponents: {
      FilterContainer: () =>
        function OperationFilter({ layoutSelectors, layoutActions }) {
          const input = h("input", {
            type: "search",
            className: "operation-filter-input",
            "aria-label": "Filter operations",
            placeholder: "Filter operations",
            value: phraseOf(layoutSelectors.currentFilter()),
            onChange: (event) => layoutActions.updateFilter(event.target.value),
          });
          return h("div", { className: "filter-container" }, h("div", { className: "filter wrapper" }, input));
        },
      Webhooks: (Webhooks, system) =>
        function FilteredWebhooks(props) {
          const phrase = phraseOf(system.layoutSelectors.currentFilter());
          const shown = ([name, entries]) =>
            matches(phrase, ["webhooks", name, ...entries.map((it) => it.operation.get("summary"))]);
          const all = Object.entries(props.specSelectors.selectWebhooksOperations() ?? {});
          const selectWebhooksOperations = () => Object.fromEntries(all.filter(shown));
          return h(Webhooks, { ...props, specSelectors: { ...props.specSelectors, selectWebhooksOperations } });
        },
    },
  };
};

const ui = SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#reference",
  plugins: [foldErrors, linkErrors, filterOperations],
  deepLinking: true,
  // A pasted credential is discarded with the page and never stored.
  persistAuthorization: false,
  tryItOutEnabled: true,
  filter: true,
  displayRequestDuration: true,
  docExpansion: "list",
  // 0 shows the list of schemas collapsed.
  defaultModelsExpandDepth: 0,
  defaultModelExpandDepth: 3,
  // Otherwise, the URL of the document would be sent to an external validator.
  validatorUrl: null,
});

// Swagger UI reads the fragment only when the page loads. A result of the search box changes it later.
addEventListener("hashchange", () => {
  if (!location.hash.startsWith("#/")) return;
  const { layoutActions, layoutSelectors } = ui.getSystem();
  // The filter may hide the operation.
  if (layoutSelectors.currentFilter() !== true) layoutActions.updateFilter("");
  layoutActions.parseDeepLinkHash(location.hash);
  const id = `operations${location.hash.slice(1).replaceAll("/", "-")}`;
  setTimeout(() => document.getElementById(id)?.scrollIntoView(), 50);
});

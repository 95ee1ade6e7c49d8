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

SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#reference",
  plugins: [foldErrors],
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

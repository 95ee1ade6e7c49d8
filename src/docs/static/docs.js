"use strict";

// A file of its own, because the pages' Content-Security-Policy runs no script that stands in a page.

// An operation can fail in a dozen ways. Swagger UI draws a whole example for each, which buries what it
// answers when all is well; folded, each status is a few lines until its example is asked for.
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
  // A pasted credential lives as long as the page, and is never stored.
  persistAuthorization: false,
  tryItOutEnabled: true,
  filter: true,
  displayRequestDuration: true,
  docExpansion: "list",
  // 0 shows the list of schemas closed.
  defaultModelsExpandDepth: 0,
  defaultModelExpandDepth: 3,
  // Otherwise the description's address would be sent to a validator elsewhere.
  validatorUrl: null,
});

// The API page: Swagger UI for openapi.json. It sends the token that was entered on the main page.

import { authorised } from "../static/token.js";

await authorised("openapi.json", {});
SwaggerUIBundle({
  url: "openapi.json",
  requestInterceptor: (request) => {
    const token = sessionStorage.getItem("skinray-token");
    if (token) request.headers = { Authorization: `Bearer ${token}`, ...request.headers };
    return request;
  },
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null,
  presets: [SwaggerUIBundle.presets.apis],
});

// Shows openapi.json in Swagger UI. Who signs in sees what their role may see: the description is fetched again with the token.
let token;

const descriptionOfRole = (system) => ({
  statePlugins: {
    auth: {
      wrapActions: {
        authorize: (authorize) => (payload) => {
          authorize(payload);
          token = payload.JWT?.value;
          system.specActions.download();
        },
        logout: (logout) => (names) => {
          logout(names);
          token = undefined;
          system.specActions.download();
        },
      },
    },
  },
});

window.ui = SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  displayRequestDuration: true,
  docExpansion: "none",
  filter: true,
  plugins: [descriptionOfRole],
  presets: [SwaggerUIBundle.presets.apis],
  requestInterceptor: (request) => {
    if (request.loadSpec && token) {
      request.headers.Authorization = `Bearer ${token}`;
    }
    return request;
  },
  tryItOutEnabled: true,
  validatorUrl: null,
});

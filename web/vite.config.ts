import tailwindcss from "@tailwindcss/vite";
import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

/** Where `npm run dev` finds the REST API: the mock server by default, a real gateway when named. */
const gateway = process.env.GATEWAY ?? "http://127.0.0.1:8099";

export default defineConfig({
  plugins: [react(), tailwindcss()],
  build: { outDir: "../gateway/static", emptyOutDir: true },
  server: { proxy: { "/api": gateway } },
});

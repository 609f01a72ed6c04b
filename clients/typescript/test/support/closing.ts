/** A program that makes a request, closes its client, and has nothing else to do. */
import { Client } from "../../src/client.js";

const client = new Client(process.env.TENANT_AUTH_ENDPOINTS ?? "");
const asked = client.serverInfo();
client.close();
await asked;
console.log("closed");

// sigstore's own JavaScript on our bundles: `NODE_MODULES=DIR node verify_bundle.mjs FILE KEY.pem`,
// where DIR holds node_modules with @sigstore/verify and @sigstore/bundle, and each line of FILE (or
// all of it) is a bundle. Exit code 1 and the reason where one is refused.
import { createHash, createPublicKey } from "node:crypto";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const require = createRequire(`${process.env.NODE_MODULES}/here.js`);
const { bundleFromJSON } = require("@sigstore/bundle");
const { Verifier, toSignedEntity } = require("@sigstore/verify");

const [file, keyFile] = process.argv.slice(2);
const pem = readFileSync(keyFile, "utf8");
const hint = createHash("sha256").update(pem).digest("hex");
const trust = {
  certificateAuthorities: [],
  timestampAuthorities: [],
  tlogs: [],
  ctlogs: [],
  publicKey(wanted) {
    if (wanted !== hint) throw new Error(`the bundle names the key ${wanted}`);
    return { publicKey: createPublicKey(pem), validFor: () => true };
  },
};
const verifier = new Verifier(trust, { tlogThreshold: 0, ctlogThreshold: 0, timestampThreshold: 0 });
try {
  const lines = file.endsWith(".jsonl")
    ? readFileSync(file, "utf8").trim().split("\n")
    : [readFileSync(file, "utf8")];
  for (const line of lines) verifier.verify(toSignedEntity(bundleFromJSON(JSON.parse(line))));
  console.log(`${lines.length} bundle${lines.length > 1 ? "s" : ""}`);
} catch (error) {
  console.error(`${error.name}: ${error.message}`);
  process.exit(1);
}

// A published set with a key of every kind, and for each a token that it verifies and some that it must not.
import { other, rsa, token } from "./jwt.mjs";

const now = Math.floor(Date.now() / 1000);
const claims = { sub: "user_1", iat: now, nbf: now - 10, exp: now + 3600 };
const rsaKey = rsa();
const kinds = [
  // One RSA key under two names, each for one algorithm; and one that says nothing of algorithms.
  ["RS256", rsaKey, "RS256", "RS512"],
  ["PS384", rsaKey, "PS384", "RS256"],
  ["RS512", rsa(), undefined, undefined],
  ["ES256", other("ec", { namedCurve: "P-256" }), "ES256", undefined],
  ["ES384", other("ec", { namedCurve: "P-384" }), "ES384", undefined],
  ["EdDSA", other("ed25519"), "EdDSA", undefined],
];
const strangers = { rsa: rsa(), "P-256": other("ec", { namedCurve: "P-256" }), "P-384": other("ec", { namedCurve: "P-384" }), ed: other("ed25519") };
const strangerOf = (alg) => alg === "EdDSA" ? strangers.ed : alg === "ES256" ? strangers["P-256"] : alg === "ES384" ? strangers["P-384"] : strangers.rsa;
const keys = [];
const good = [];
const bad = [];
for (const [alg, key, only, misused] of kinds) {
  const kid = `key-${alg}`;
  keys.push({ ...key.jwk, kid, use: "sig", ...(only && { alg: only }) });
  good.push([alg, token({ alg, typ: "JWT", kid }, claims, key.privateKey)]);
  bad.push([`${alg} of a stranger`, token({ alg, typ: "JWT", kid }, claims, strangerOf(alg).privateKey)]);
  if (misused) bad.push([`${misused} with a key for ${only}`, token({ alg: misused, typ: "JWT", kid }, claims, key.privateKey)]);
}
// A key of another kind than the token's algorithm needs.
bad.push(["RS256 that names an elliptic key", token({ alg: "RS256", typ: "JWT", kid: "key-ES256" }, claims, rsaKey.privateKey)]);
bad.push(["ES256 that names an RSA key", token({ alg: "ES256", typ: "JWT", kid: "key-RS512" }, claims, strangers["P-256"].privateKey)]);
bad.push(["ES384 that names a P-256 key", token({ alg: "ES384", typ: "JWT", kid: "key-ES256" }, claims, strangers["P-384"].privateKey)]);
// What a set may have besides, and nobody may sign with.
const short = other("rsa", { modulusLength: 1024 });
keys.push({ ...short.jwk, kid: "short", use: "sig" });
keys.push({ ...strangers.rsa.jwk, kid: "encryption", use: "enc" });
keys.push({ kty: "oct", k: "c2VjcmV0", kid: "shared" });
const hidden = [
  ["an RSA key of 1024 bits", token({ alg: "RS256", typ: "JWT", kid: "short" }, claims, short.privateKey)],
  ["a key for encryption", token({ alg: "RS256", typ: "JWT", kid: "encryption" }, claims, strangers.rsa.privateKey)],
];
console.log(JSON.stringify({ keys, good, bad, hidden }));

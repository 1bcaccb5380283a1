// The attack table: prints keys, and tokens with what they should be answered.
import { b64, other, raw, rsa, signature, token } from "./jwt.mjs";

const ours = rsa();
const theirs = rsa();
const p256 = other("ec", { namedCurve: "P-256" });
const p384 = other("ec", { namedCurve: "P-384" });
const ed = other("ed25519");
const now = Math.floor(Date.now() / 1000);
const header = { alg: "RS256", typ: "JWT", kid: "k1" };
const claims = {
  iss: "https://issuer.example", sub: "user_1", sid: "sess_1", aud: "api", azp: "https://app.example",
  iat: now, nbf: now - 10, exp: now + 3600,
};
const good = token(header, claims, ours.privateKey);
const with_ = (more) => token(header, { ...claims, ...more }, ours.privateKey);
const without = (name) => {
  const { [name]: _, ...rest } = claims;
  return token(header, rest, ours.privateKey);
};
const head = (more, key = ours.privateKey) => token({ ...header, ...more }, claims, key);
const [h, c, s] = good.split(".");
const text = JSON.stringify(claims);
const evil = JSON.stringify({ ...claims, sub: "admin" });
const padded = (part) => Buffer.from(part, "base64url").toString("base64");
const changed = `${h}.${b64(evil)}.${s}`;
// The last character of a signature of 256 bytes has four bits that say nothing.
const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const twin = s.slice(0, -1) + alphabet[alphabet.indexOf(s.at(-1)) ^ 1];
const invalid = "token-invalid";
const failed = "token-verification-failed";

const bad = {
  "alg none": [token({ alg: "none", typ: "JWT" }, claims), invalid],
  "alg none with a signature": [`${b64('{"alg":"none"}')}.${c}.${s}`, "token-invalid-algorithm"],
  "alg None": [`${b64('{"alg":"None"}')}.${c}.${s}`, "token-invalid-algorithm"],
  "no alg": [`${b64('{"typ":"JWT"}')}.${c}.${s}`, "token-invalid-algorithm"],
  "alg as a list": [`${b64('{"alg":["RS256"]}')}.${c}.${s}`, "token-invalid-algorithm"],
  "HS256 with the public key in PEM": [token({ ...header, alg: "HS256" }, claims, ours.pem), "token-invalid-algorithm"],
  "HS256 with the public key in PEM, trimmed": [
    token({ ...header, alg: "HS256" }, claims, ours.pem.trim()), "token-invalid-algorithm",
  ],
  "HS256 named RS256": [
    `${h}.${b64(evil)}.${signature("HS256", ours.pem, `${h}.${b64(evil)}`)}`, "token-invalid-signature",
  ],
  "another algorithm of the right key": [token({ ...header, alg: "RS512" }, claims, ours.privateKey), "token-invalid-algorithm"],
  "PSS named RS256": [`${h}.${c}.${signature("PS256", ours.privateKey, `${h}.${c}`)}`, "token-invalid-signature"],
  "another key": [token(header, claims, theirs.privateKey), "token-invalid-signature"],
  "another curve": [token({ ...header, alg: "ES384" }, claims, p384.privateKey), "token-invalid-algorithm"],
  "wrong kid": [head({ kid: "k2" }), "jwk-kid-mismatch"],
  "jku": [head({ jku: "http://127.0.0.1:1/jwks" }, theirs.privateKey), "token-invalid-signature"],
  "x5u": [head({ x5u: "http://127.0.0.1:1/cert" }, theirs.privateKey), "token-invalid-signature"],
  "embedded jwk": [head({ jwk: theirs.jwk }, theirs.privateKey), "token-invalid-signature"],
  "embedded x5c": [head({ x5c: [padded(s)] }, theirs.privateKey), "token-invalid-signature"],
  "unknown crit": [head({ crit: ["exp"], exp: 1 }), "token-critical-unknown"],
  "empty crit": [head({ crit: [] }), "token-critical-unknown"],
  "b64 false": [head({ b64: false, crit: ["b64"] }), "token-critical-unknown"],
  "another typ": [head({ typ: "at+jwt" }), invalid],
  "typ null": [head({ typ: null }), invalid],
  "a machine's token": [head({ cat: "cl_B7d4PD333AAA" }), invalid],
  "changed claims": [changed, "token-invalid-signature"],
  "no signature": [`${h}.${c}.`, invalid],
  "two parts": [`${h}.${c}`, invalid],
  "four parts": [`${good}.${s}`, invalid],
  "five parts": [`${good}.${c}.${s}`, invalid],
  "empty header": [`.${c}.${s}`, invalid],
  "empty claims": [`${h}..${s}`, invalid],
  "truncated": [good.slice(0, -1), invalid],
  "truncated by ten": [good.slice(0, -10), "token-invalid-signature"],
  // Cut within the claims: a cut in the signature is malformed or wrong, as its length will have it.
  "half": [good.slice(0, good.indexOf(".") + 20), invalid],
  "signature of another writing": [`${h}.${c}.${twin}`, invalid],
  "padding": [`${h}.${c}.${padded(s)}`, invalid],
  "base64 with + and /": [`${h}.${c}.${s.replaceAll("-", "+").replaceAll("_", "/")}+/`, invalid],
  "a blank inside": [`${h}. ${c}.${s}`, invalid],
  "a tab inside": [`${h}\t.${c}.${s}`, invalid],
  "1 MB": [`${h}.${"A".repeat(1_000_000)}.${s}`, "token-too-long"],
  "header is no object": [raw('"x"', text, "RS256", ours.privateKey), invalid],
  "claims are no object": [raw(JSON.stringify(header), "[]", "RS256", ours.privateKey), invalid],
  "claims are no JSON": [raw(JSON.stringify(header), "{", "RS256", ours.privateKey), invalid],
  "claims and more": [raw(JSON.stringify(header), `${text}{}`, "RS256", ours.privateKey), invalid],
  "sub twice": [
    raw(JSON.stringify(header), text.replace("{", '{"sub":"admin",'), "RS256", ours.privateKey), "token-duplicate-name",
  ],
  "sub twice, once escaped": [
    raw(JSON.stringify(header), text.replace("{", '{"s\\u0075b":"admin",'), "RS256", ours.privateKey),
    "token-duplicate-name",
  ],
  "alg twice": [raw('{"alg":"none","alg":"RS256"}', text, "RS256", ours.privateKey), "token-duplicate-name"],
  "a name twice, deep": [
    raw(JSON.stringify(header), text.replace("{", '{"o":{"r":1,"r":2},'), "RS256", ours.privateKey),
    "token-duplicate-name",
  ],
  "expired": [with_({ exp: now - 6 }), "token-expired"],
  "expired for years": [with_({ exp: 1 }), "token-expired"],
  "exp as a text": [with_({ exp: `${now + 3600}` }), failed],
  "exp null": [with_({ exp: null }), failed],
  "no exp": [without("exp"), failed],
  "nbf in the future": [with_({ nbf: now + 600 }), "token-not-active-yet"],
  "nbf as a text": [with_({ nbf: "0" }), failed],
  "iat in the future": [with_({ iat: now + 600 }), "token-iat-in-the-future"],
  "wrong azp": [with_({ azp: "https://evil.example" }), "token-invalid-authorized-parties"],
  "azp with more behind": [with_({ azp: "https://app.example.evil.example" }), "token-invalid-authorized-parties"],
  "no azp": [without("azp"), "token-invalid-authorized-parties"],
  "wrong aud": [with_({ aud: "other" }), failed],
  "wrong auds": [with_({ aud: ["other", "others"] }), failed],
  "aud is no text": [with_({ aud: 7 }), failed],
  "wrong iss": [with_({ iss: "https://evil.example" }), "token-invalid-issuer"],
  "no iss": [without("iss"), "token-invalid-issuer"],
  "no sub": [without("sub"), failed],
  "empty sub": [with_({ sub: "" }), failed],
  "sub is no text": [with_({ sub: 1 }), failed],
  "deeply nested": [with_({ deep: JSON.parse("[".repeat(100) + "]".repeat(100)) }), failed],
};
const fine = {
  "as it should be": good,
  "without typ": token({ alg: "RS256", kid: "k1" }, claims, ours.privateKey),
  "without kid": token({ alg: "RS256" }, claims, ours.privateKey),
  "one of several audiences": with_({ aud: ["x", "api"] }),
  "without aud": without("aud"),
};
const algorithms = {
  RS256: [ours, "rsa"], RS384: [ours, "rsa"], RS512: [ours, "rsa"], PS256: [ours, "rsa"], PS384: [ours, "rsa"],
  PS512: [ours, "rsa"], ES256: [p256, "p256"], ES384: [p384, "p384"], EdDSA: [ed, "ed"],
};
const signed = Object.entries(algorithms).map(([alg, [key, name]]) => [
  name, alg, token({ alg }, claims, key.privateKey), token({ alg }, { ...claims, sub: "x" }, key.privateKey),
]);
console.log(JSON.stringify({
  pem: ours.pem,
  keys: { rsa: ours.pem, p256: p256.pem, p384: p384.pem, ed: ed.pem },
  jwks: { keys: [{ ...ours.jwk, kid: "k1", alg: "RS256", use: "sig" }, { ...theirs.jwk, kid: "enc", use: "enc" }] },
  bad, fine, signed,
}));

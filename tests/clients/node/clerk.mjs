// 200 tokens, honest ones and ones with a fault or two, and what Clerk's own SDK says of each.
import { verifyToken } from "@clerk/backend";
import { b64, rsa, token } from "./jwt.mjs";

let state = 20241125;
const random = (below) => {
  state = (Math.imul(state, 1103515245) + 12345) >>> 0;
  return (state >>> 8) % below;
};
const pick = (list) => list[random(list.length)];

const ours = rsa();
const theirs = rsa();
const now = Math.floor(Date.now() / 1000);
const faults = [
  (t) => (t.claims.exp = pick([now - 3600, now - 60, 1, `${now}`, null, undefined])),
  (t) => (t.claims.nbf = pick([now + 600, now - 600, now + 3, "x", undefined])),
  (t) => (t.claims.iat = pick([now + 600, now + 3, now - 86400, "x", undefined])),
  (t) => (t.claims.azp = pick(["https://evil.example", "https://app.example/", undefined, "", "https://www.example"])),
  (t) => (t.claims.aud = pick(["other", ["other"], ["other", "api"], [], "", undefined])),
  (t) => (t.claims.sub = pick([undefined, null, 42, ["user_1"], "user_2"])),
  (t) => (t.claims.exp = pick([now + 100.5, now + 1e9])),
  (t) => (t.header.typ = pick([undefined, "jwt", "at+jwt", null, "JOSE"])),
  (t) => (t.header.alg = pick(["RS384", "RS512", "PS256", "HS256", "none", "ES256", undefined])),
  (t) => (t.header.kid = pick(["k2", undefined, ""])),
  (t) => (t.header.cat = "cl_B7d4PD333AAA"),
  (t) => (t.key = theirs.privateKey),
  (t) => (t.after = pick(["change", "cut", "drop", "more"])),
  (t) => (t.claims.org_role = "admin"),
];

const cases = [];
for (let number = 0; number < 200; number++) {
  const t = {
    header: { alg: "RS256", typ: "JWT", kid: "k1" },
    claims: {
      iss: "https://clerk.example", sub: "user_1", sid: `sess_${number}`, azp: "https://app.example", iat: now,
      nbf: now - 10, exp: now + 3600,
    },
    key: ours.privateKey,
  };
  const count = pick([0, 0, 1, 1, 1, 1, 2]);
  for (let n = 0; n < count; n++) pick(faults)(t);
  const alg = t.header.alg ?? "RS256";
  const key = alg.startsWith("HS") ? ours.pem : t.key;
  const signable = alg.startsWith("ES") ? token({ ...t.header, alg: "RS256" }, t.claims, key) : undefined;
  let text = signable
    ? `${b64(JSON.stringify(t.header))}.${signable.split(".").slice(1).join(".")}`
    : token({ ...t.header, alg }, t.claims, key);
  if (t.header.alg === undefined) text = `${b64(JSON.stringify(t.header))}.${text.split(".").slice(1).join(".")}`;
  const [h, c, s] = text.split(".");
  if (t.after === "change") text = `${h}.${b64(JSON.stringify({ ...t.claims, sub: "admin" }))}.${s}`;
  if (t.after === "cut") text = text.slice(0, -8);
  if (t.after === "drop") text = `${h}.${c}`;
  if (t.after === "more") text = `${text}.${s}`;
  let reason = null;
  try {
    await verifyToken(text, {
      jwtKey: ours.pem, audience: "api", authorizedParties: ["https://app.example", "https://www.example"],
    });
  } catch (error) {
    reason = error.reason ?? String(error);
  }
  // A key in PEM is for RS256 with this SDK: it knows the other two by name and fails later, with another reason.
  const single = count === 1 && !["RS384", "RS512"].includes(t.header.alg);
  cases.push({ token: text, reason, single, claims: t.claims, header: t.header });
}
console.log(JSON.stringify({ pem: ours.pem, cases }));

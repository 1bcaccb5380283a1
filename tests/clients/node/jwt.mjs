// Keys and tokens, honest and forged. Owns the forging: nothing here checks anything.
import { constants, createHmac, generateKeyPairSync, sign } from "node:crypto";

export const b64 = (data) => Buffer.from(data).toString("base64url");

export function rsa() {
  const { privateKey, publicKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  return { privateKey, pem: publicKey.export({ type: "spki", format: "pem" }), jwk: publicKey.export({ format: "jwk" }) };
}

export function other(type, options) {
  const { privateKey, publicKey } = generateKeyPairSync(type, options);
  return { privateKey, pem: publicKey.export({ type: "spki", format: "pem" }), jwk: publicKey.export({ format: "jwk" }) };
}

const hash = (alg) => `sha${alg.slice(2)}`;

export function signature(alg, key, message) {
  const data = Buffer.from(message);
  if (alg === "none") return "";
  if (alg.startsWith("HS")) return createHmac(hash(alg), key).update(data).digest("base64url");
  if (alg === "EdDSA") return sign(null, data, key).toString("base64url");
  if (alg.startsWith("ES")) return sign(hash(alg), data, { key, dsaEncoding: "ieee-p1363" }).toString("base64url");
  if (alg.startsWith("PS")) {
    const options = { key, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: constants.RSA_PSS_SALTLEN_DIGEST };
    return sign(hash(alg), data, options).toString("base64url");
  }
  return sign(hash(alg), data, key).toString("base64url");
}

/** A token of texts: header and claims may be anything, also what no library would write. */
export function raw(header, claims, alg, key) {
  const message = `${b64(header)}.${b64(claims)}`;
  return `${message}.${signature(alg, key, message)}`;
}

export function token(header, claims, key) {
  return raw(JSON.stringify(header), JSON.stringify(claims), header.alg, key);
}

//! A signed assertion (RFC 7515, RS256): two JSON texts and a signature, in the alphabet of URLs.
//!
//! Signs with the crypto library that TLS has already brought; reads no token of anybody.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair;
use aws_lc_rs::signature::RSA_PKCS1_SHA256;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;

use crate::base64url;
use crate::secret::Secret;

/// `pem` is an RSA key, of PKCS #8 or of its own kind. The texts are JSON objects.
pub fn rs256(pem: &Secret, head: &str, claims: &str) -> Result<String, &'static str> {
    const NO_KEY: &str = "the private key of the service account is no RSA key";
    let der = PrivateKeyDer::from_pem_slice(pem.expose().as_bytes()).map_err(|_| NO_KEY)?;
    let key = match &der {
        PrivateKeyDer::Pkcs8(der) => KeyPair::from_pkcs8(der.secret_pkcs8_der()),
        PrivateKeyDer::Pkcs1(der) => KeyPair::from_der(der.secret_pkcs1_der()),
        _ => return Err(NO_KEY),
    };
    let key = key.map_err(|_| NO_KEY)?;
    let signed = format!("{}.{}", base64url::encode(head.as_bytes()), base64url::encode(claims.as_bytes()));
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature)
        .map_err(|_| "the private key of the service account cannot sign")?;
    Ok(format!("{signed}.{}", base64url::encode(&signature)))
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
    use aws_lc_rs::rsa::KeySize;
    use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};

    use super::*;

    #[test]
    fn a_signature_that_its_public_key_knows() {
        let key = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let der: Pkcs8V1Der<'_> = key.as_der().unwrap();
        // The alphabet of PEM is the other one.
        let text = base64url::encode(der.as_ref()).replace('-', "+").replace('_', "/");
        let padded = format!("{text}{}", "=".repeat((4 - text.len() % 4) % 4));
        let pem = Secret::new(format!("-----BEGIN PRIVATE KEY-----\n{padded}\n-----END PRIVATE KEY-----\n"));
        let jwt = rs256(&pem, r#"{"alg":"RS256"}"#, "{}").unwrap();
        let (signed, signature) = jwt.rsplit_once('.').unwrap();
        assert_eq!(signed, format!("{}.{}", base64url::encode(br#"{"alg":"RS256"}"#), base64url::encode(b"{}")));
        let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key.public_key());
        let signature = base64url::decode(signature).unwrap();
        public.verify(signed.as_bytes(), &signature).unwrap();
        assert!(public.verify(b"other", &signature).is_err());
        assert!(rs256(&Secret::new("no key"), "{}", "{}").is_err());
    }
}

//! Which names of this server a request may use. Never by what address it came.
//!
//! A web page that somebody visits can make the browser send requests to a name of its own, and let that name point to
//! this server ("DNS rebinding"). The browser then takes this server for a part of that page. It sends the name in the
//! header `Host`, so a foreign name is refused. An address is no name: nobody can let it point elsewhere.

use super::answer::{self, Answer};
use hyper::{
    HeaderMap, StatusCode,
    header::{HOST, HeaderName},
};
use std::net::IpAddr;

/// By whom the browser was made to send a request, as the browser says it.
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The names of this server.
#[derive(Debug)]
pub struct Hosts(Vec<String>);

impl Hosts {
    /// Besides addresses and names of this computer itself, these names.
    pub fn new(names: &[String]) -> Self {
        Hosts(names.iter().map(|name| name.to_ascii_lowercase()).collect())
    }

    /// Whether a request with these headers names this server.
    pub fn allow(&self, headers: &HeaderMap) -> bool {
        let mut hosts = headers.get_all(HOST).iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
        let Ok(host) = host.to_str() else { return false };
        let name = without_port(host).to_ascii_lowercase();
        let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
        address.unwrap_or(&name).parse::<IpAddr>().is_ok()
            || name == "localhost"
            || name.ends_with(".localhost")
            || self.0.contains(&name)
    }
}

/// The answer to a request that names another server.
pub fn misdirected() -> Answer {
    let hint = "Use the address of this server, or name the host with --http-host.";
    let error = "This server has another name.";
    answer::failure(StatusCode::MISDIRECTED_REQUEST, error, Some(hint))
}

/// Whether another site made the browser send this request.
pub fn is_from_elsewhere(headers: &HeaderMap) -> bool {
    let site = headers.get(FETCH_SITE).and_then(|site| site.to_str().ok());
    matches!(site, Some("cross-site" | "same-site"))
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    #[test]
    fn addresses_and_known_names_are_allowed_and_foreign_names_are_not() {
        let hosts = Hosts::new(&["Fleet.example.com".into()]);
        for (host, allowed) in [
            ("127.0.0.1:8480", true),
            ("[::1]:8480", true),
            ("[::1]", true),
            ("10.1.2.3", true),
            ("localhost:8480", true),
            ("LOCALHOST", true),
            ("muster.localhost:1", true),
            ("fleet.example.com:443", true),
            ("fleet.example.com", true),
            ("evil.example.com", false),
            ("localhost.evil.com", false),
            ("127.0.0.1.evil.com", false),
            ("fleet.example.com.evil.com", false),
            ("notlocalhost", false),
            ("", false),
            (":8480", false),
            ("evil.com:127.0.0.1", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, HeaderValue::from_static(host));
            assert_eq!(hosts.allow(&headers), allowed, "{host}");
        }
        assert!(!hosts.allow(&HeaderMap::new()), "no name at all");
        let mut headers = HeaderMap::new();
        headers.append(HOST, HeaderValue::from_static("localhost"));
        headers.append(HOST, HeaderValue::from_static("evil.com"));
        assert!(!hosts.allow(&headers), "two names");
    }
}

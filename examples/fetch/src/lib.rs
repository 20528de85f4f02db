//! Asks for the page that its input names and gives back what it got. It must never be told where it
//! may go: what was not granted is refused by the worker.

#[cfg(target_family = "wasm")]
mod http;

/// The page at an address such as `http://example.com/page`.
#[muster::task]
pub fn fetch(address: String) -> Result<Vec<u8>, String> {
    let place = Place::of(address.trim())?;
    let (status, body) = get(&place)?;
    muster::info!("{} answered {status} with {} bytes", place.authority, body.len());
    match status {
        200..=299 => Ok(body),
        _ => Err(format!("{} answered {status}", place.authority)),
    }
}

#[cfg(target_family = "wasm")]
use http::get;

#[cfg(not(target_family = "wasm"))]
fn get(_: &Place) -> Result<(u16, Vec<u8>), String> {
    Err("only a worker sends requests".into())
}

/// An address in its parts.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    is_secure: bool,
    authority: String,
    path: String,
}

impl Place {
    fn of(address: &str) -> Result<Self, String> {
        let form = || format!("{address:?} is no address: write http://HOST/PATH");
        let (scheme, rest) = address.split_once("://").ok_or_else(form)?;
        let is_secure = match scheme {
            "http" => false,
            "https" => true,
            _ => return Err(form()),
        };
        let end = rest.find('/').unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if authority.is_empty() {
            return Err(form());
        }
        let path = if path.is_empty() { "/" } else { path };
        Ok(Place { is_secure, authority: authority.into(), path: path.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_parts() {
        let place = Place::of("https://example.com:8443/a?b=c").expect("an address");
        assert!(place.is_secure);
        assert_eq!((&*place.authority, &*place.path), ("example.com:8443", "/a?b=c"));
        assert_eq!(Place::of("http://h").map(|place| place.path), Ok("/".into()));
        for bad in ["", "example.com", "ftp://h/", "http:///path"] {
            assert!(Place::of(bad).is_err(), "{bad}");
        }
    }
}

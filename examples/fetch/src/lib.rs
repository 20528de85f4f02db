//! Fetches the pages that its input names. It must never contain a list of allowed places: the worker
//! refuses what was not granted.

#[cfg(target_family = "wasm")]
mod http;

/// Fetches the page at an address such as `http://example.com/page`. With several lines it fetches all
/// of them at once. [`Wanted`] has the other lines that the input may contain.
#[muster::task]
pub fn fetch(lines: String) -> Result<Vec<u8>, String> {
    let wanted = Wanted::of(&lines)?;
    let mut pages = Vec::new();
    for (place, (status, body)) in wanted.places.iter().zip(ask(&wanted)?) {
        muster::info!("{} answered {status} with {} bytes", place.authority, body.len());
        match status {
            200..=299 => pages.extend(body),
            _ => return Err(format!("{} answered {status}", place.authority)),
        }
    }
    Ok(pages)
}

#[cfg(target_family = "wasm")]
use http::ask;

#[cfg(not(target_family = "wasm"))]
fn ask(_: &Wanted) -> Result<Vec<(u16, Vec<u8>)>, String> {
    Err("only a worker sends requests".into())
}

/// The lines of the input: addresses, and options for all requests.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wanted {
    places: Vec<Place>,
    /// `header NAME VALUE`: one more header.
    headers: Vec<(String, String)>,
    /// `body BYTES`: a POST with so many bytes instead of a GET.
    body: u64,
    /// `between MILLISECONDS`: the longest wait for the next part of an answer.
    between_ms: Option<u64>,
    /// `forget`: do not wait for an answer. The request may then not arrive.
    forget: bool,
}

impl Wanted {
    fn of(lines: &str) -> Result<Self, String> {
        let number = |text: &str| {
            text.parse::<u64>().map_err(|_| format!("{text:?} is no number: write digits"))
        };
        let mut wanted = Wanted::default();
        for line in lines.trim().lines() {
            let words: Vec<&str> = line.splitn(3, ' ').collect();
            match words[..] {
                ["header", name, value] => wanted.headers.push((name.into(), value.into())),
                ["body", bytes] => wanted.body = number(bytes)?,
                ["between", ms] => wanted.between_ms = Some(number(ms)?),
                ["forget"] => wanted.forget = true,
                _ => wanted.places.push(Place::of(line.trim())?),
            }
        }
        if wanted.places.is_empty() {
            return Err("there is no address: write http://HOST/PATH".into());
        }
        Ok(wanted)
    }
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

    #[test]
    fn lines_say_what_is_wanted() {
        let wanted = Wanted::of("http://a/\nhttp://b/\nheader x-a b c\nbody 9\nbetween 50\nforget");
        let wanted = wanted.expect("lines");
        assert_eq!(wanted.places.len(), 2);
        assert_eq!(wanted.headers, [("x-a".to_string(), "b c".to_string())]);
        assert_eq!((wanted.body, wanted.between_ms, wanted.forget), (9, Some(50), true));
        for bad in ["", "body 9", "http://a/\nbody many", "http://a/\nheader x"] {
            assert!(Wanted::of(bad).is_err(), "{bad}");
        }
    }
}

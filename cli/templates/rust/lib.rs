//! A task that takes a text and returns a text. Other types are encoded as JSON if they implement serde's
//! traits; see the crate `muster`.

/// Greets a person by name.
///
/// # Errors
///
/// If the input is empty. The task then fails with this message.
#[muster::task]
pub fn greet(name: String) -> Result<String, String> {
    let name = name.trim();
    if name.is_empty() {
        return Err("say whom to greet".into());
    }
    muster::info!("greeting {name}");
    Ok(format!("Hello, {name}!"))
}

#[cfg(test)]
mod tests {
    use super::greet;

    #[test]
    fn greets() {
        assert_eq!(greet("world\n".into()), Ok("Hello, world!".into()));
        assert_eq!(greet(String::new()), Err("say whom to greet".into()));
    }
}

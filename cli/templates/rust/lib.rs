//! A task: text in, text out. Types that derive serde's traits travel as JSON; see the crate `muster`.

/// Greets a person by name.
///
/// # Errors
///
/// When the input is empty: the task then fails with this message.
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

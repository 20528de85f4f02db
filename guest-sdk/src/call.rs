//! One call of a task: decodes the input for the function, and encodes what it returned. Never chooses
//! an encoding by a type's name: the compiler chooses, by the type's traits.
//!
//! A blanket implementation for `Deserialize` would forbid one for `Vec<u8>`, which is also
//! `Deserialize`. So the expansion of `__call!` makes the choice, where the type is known. The compiler
//! looks for a method on `&&&Taken<T>`, then on `&&Taken<T>`, then on `&Taken<T>`, and takes the first
//! one whose bounds hold.

use std::cell::Cell;
use std::fmt::Display;
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::data::{FromInput, IntoOutput, read_json, write_json};

/// A marker for the input type of a task.
pub struct Taken<I>(PhantomData<I>);

/// The marker for the input type of this task.
pub fn taken_by<I, O>(_: &impl FnOnce(I) -> O) -> Taken<I> {
    Taken(PhantomData)
}

/// The bound of an input type for the last choice, JSON. Every `Deserialize` type has it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not something a task can take",
    label = "the type of the task's input",
    note = "give it `#[derive(serde::Deserialize)]`, and it is taken as JSON",
    note = "a task also takes `Vec<u8>`, `String` and `()`, an `Option` of any of these, and any type that implements `muster::FromInput`"
)]
pub trait Take: DeserializeOwned {}
impl<T: DeserializeOwned> Take for T {}

/// The bound of an output type for the last choice, JSON. Every `Serialize` type has it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not something a task can return",
    label = "the type of the task's output",
    note = "give it `#[derive(serde::Serialize)]`, and it is returned as JSON",
    note = "a task also returns `Vec<u8>`, `String`, `&str` and `()`, an `Option` of any of these, any type that implements `muster::IntoOutput`, or a `Result` of one of these"
)]
pub trait Give: Serialize {}
impl<T: Serialize> Give for T {}

/// The bound of an error type. Every `Display` type has it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an error that a task can return: nobody could read it",
    note = "implement `std::fmt::Display` for it, or turn it into a `String`"
)]
pub trait Tell: Display {}
impl<T: Display> Tell for T {}

/// First choice: the type decodes itself.
pub trait ReadItself {
    /// The decoded type.
    type In;
    /// Decodes the input.
    fn read(&self, input: Vec<u8>) -> Result<Self::In, String>;
}

impl<I: FromInput> ReadItself for &&Taken<I> {
    type In = I;
    fn read(&self, input: Vec<u8>) -> Result<I, String> {
        I::from_input(input)
    }
}

/// Second choice: JSON, or no bytes for `None`.
pub trait ReadOptionalJson {
    /// The decoded type, inside the `Option`.
    type In;
    /// Decodes the input; `None` if there are no bytes.
    fn read(&self, input: Vec<u8>) -> Result<Option<Self::In>, String>
    where
        Self::In: Take;
}

impl<I> ReadOptionalJson for &Taken<Option<I>> {
    type In = I;
    fn read(&self, input: Vec<u8>) -> Result<Option<I>, String>
    where
        I: Take,
    {
        if input.is_empty() { Ok(None) } else { read_json(&input).map(Some) }
    }
}

/// Last choice: JSON.
pub trait ReadJson {
    /// The decoded type.
    type In;
    /// Decodes the input.
    fn read(&self, input: Vec<u8>) -> Result<Self::In, String>
    where
        Self::In: Take;
}

impl<I> ReadJson for Taken<I> {
    type In = I;
    fn read(&self, input: Vec<u8>) -> Result<I, String>
    where
        I: Take,
    {
        read_json(&input)
    }
}

/// A value that a task returned, before it is encoded.
pub struct Given<O>(Cell<Option<O>>);

/// Wraps a value that a task returned.
pub fn given<O>(output: O) -> Given<O> {
    Given(Cell::new(Some(output)))
}

impl<O> Given<O> {
    // The method lookup needs a reference and encoding needs the value, so the value is taken out once.
    fn take(&self) -> O {
        self.0.take().expect("an output is written once")
    }
}

/// For a `Result`: its error becomes the task's error.
pub trait Fallible {
    /// The type of the value.
    type Ok;
    /// The type of the error.
    type Err;
    /// Returns the value, or the error as text.
    fn split(&self) -> Result<Given<Self::Ok>, String>
    where
        Self::Err: Tell;
}

impl<T, E> Fallible for &Given<Result<T, E>> {
    type Ok = T;
    type Err = E;
    fn split(&self) -> Result<Given<T>, String>
    where
        E: Tell,
    {
        // `{:#}` includes the causes of an error, if it has any.
        self.take().map(given).map_err(|error| format!("{error:#}"))
    }
}

/// For any type that is no `Result`.
pub trait Infallible {
    /// The type of the value.
    type Ok;
    /// Returns the value.
    fn split(&self) -> Result<Given<Self::Ok>, String>;
}

impl<T> Infallible for Given<T> {
    type Ok = T;
    fn split(&self) -> Result<Given<T>, String> {
        Ok(given(self.take()))
    }
}

/// First choice: the type encodes itself.
pub trait WriteItself {
    /// Encodes the value.
    fn write(&self) -> Result<Vec<u8>, String>;
}

impl<O: IntoOutput> WriteItself for &&Given<O> {
    fn write(&self) -> Result<Vec<u8>, String> {
        self.take().into_output()
    }
}

/// Second choice: JSON, or no bytes for `None`.
pub trait WriteOptionalJson {
    /// The encoded type, inside the `Option`.
    type Out;
    /// Encodes the value; no bytes for `None`.
    fn write(&self) -> Result<Vec<u8>, String>
    where
        Self::Out: Give;
}

impl<O> WriteOptionalJson for &Given<Option<O>> {
    type Out = O;
    fn write(&self) -> Result<Vec<u8>, String>
    where
        O: Give,
    {
        self.take().map_or_else(|| Ok(Vec::new()), |output| write_json(&output))
    }
}

/// Last choice: JSON.
pub trait WriteJson {
    /// The encoded type.
    type Out;
    /// Encodes the value.
    fn write(&self) -> Result<Vec<u8>, String>
    where
        Self::Out: Give;
}

impl<O> WriteJson for Given<O> {
    type Out = O;
    fn write(&self) -> Result<Vec<u8>, String>
    where
        O: Give,
    {
        write_json(&self.take())
    }
}

/// Decodes the input, calls the task, and encodes what it returned. Not a public API.
#[doc(hidden)]
#[macro_export]
macro_rules! __call {
    ($task:expr, $input:expr) => {{
        #[allow(unused_imports)]
        use $crate::__private::{
            Fallible as _, Infallible as _, ReadItself as _, ReadJson as _, ReadOptionalJson as _,
            WriteItself as _, WriteJson as _, WriteOptionalJson as _,
        };
        let task = $task;
        $crate::__private::begin();
        #[allow(clippy::needless_borrow)] // One reference per choice.
        match (&&&$crate::__private::taken_by(&task)).read($input) {
            ::std::result::Result::Ok(input) => {
                match (&&$crate::__private::given(task(input))).split() {
                    ::std::result::Result::Ok(given) => (&&&given).write(),
                    ::std::result::Result::Err(message) => ::std::result::Result::Err(message),
                }
            }
            ::std::result::Result::Err(message) => ::std::result::Result::Err(message),
        }
    }};
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use crate::{FromInput, IntoOutput, Json};

    /// Has both encodings: its own one must win over JSON.
    #[derive(Debug, Serialize, Deserialize)]
    struct Hex(u8);

    impl FromInput for Hex {
        fn from_input(input: Vec<u8>) -> Result<Self, String> {
            let text = String::from_input(input)?;
            u8::from_str_radix(&text, 16).map(Hex).map_err(|error| error.to_string())
        }
    }

    impl IntoOutput for Hex {
        fn into_output(self) -> Result<Vec<u8>, String> {
            Ok(format!("{:x}", self.0).into_bytes())
        }
    }

    #[derive(Serialize, Deserialize)]
    struct Order {
        pieces: u8,
    }

    macro_rules! check {
        ($task:expr, $input:expr, $expected:expr) => {
            let output = __call!($task, $input.to_vec());
            let output = output.map(|bytes| String::from_utf8(bytes).expect("text"));
            assert_eq!(output.as_deref().map_err(String::as_str), $expected);
        };
    }

    #[test]
    fn text_and_bytes_are_taken_and_given_as_they_are() {
        check!(|bytes: Vec<u8>| bytes, b"[1]", Ok("[1]"));
        check!(|text: String| text, b"\"a\"", Ok("\"a\""));
        check!(|(): ()| "done", b"", Ok("done"));
        check!(|text: Option<String>| text.is_none().then_some("none"), b"", Ok("none"));
        check!(|(): ()| None::<String>, b"", Ok(""));
    }

    #[test]
    fn the_rest_is_json() {
        check!(|order: Order| Order { pieces: order.pieces + 1 }, b"{\"pieces\":1}", {
            Ok("{\"pieces\":2}")
        });
        check!(|list: Vec<u16>| list.len(), b"[1, 2]", Ok("2"));
        check!(|Json(text): Json<String>| Json(text + "!"), b"\"a\"", Ok("\"a!\""));
        check!(|order: Option<Order>| order.is_some(), b"", Ok("false"));
        check!(|order: Option<Order>| order, b"{\"pieces\":1}", Ok("{\"pieces\":1}"));
        check!(|order: Option<Json<Order>>| order.map(|Json(order)| order), b"", Ok(""));
    }

    #[test]
    fn an_encoding_of_ones_own_comes_first() {
        check!(|Hex(byte): Hex| Hex(byte / 2), b"ff", Ok("7f"));
        check!(|byte: Option<Hex>| byte, b"10", Ok("10"));
        check!(|byte: Hex| Ok::<_, String>(byte), b"10", Ok("10"));
    }

    #[test]
    fn what_does_not_fit_says_why() {
        check!(|order: Order| order, b"{\"pieces\":256}", {
            Err("the input is not the JSON this task takes: invalid value: integer `256`, \
                 expected u8 at line 1 column 13")
        });
        let nameless = |(): ()| std::collections::HashMap::from([((1, 2), 3)]);
        check!(nameless, b"", {
            Err("the output cannot be written as JSON: key must be a string")
        });
    }

    #[test]
    fn an_error_is_the_tasks_and_never_json() {
        check!(|(): ()| Err::<Order, _>("no such cat"), b"", Err("no such cat"));
        check!(|(): ()| Err::<Option<Order>, _>(7), b"", Err("7"));
        check!(|(): ()| Ok::<_, u8>(Order { pieces: 1 }), b"", Ok("{\"pieces\":1}"));
        check!(|text: String| text.parse::<u8>(), b"x", Err("invalid digit found in string"));
    }
}

//! The attribute that makes a function a task. It keeps the function unchanged and adds the export.
//! Never chooses an encoding by a type's name: the compiler chooses, by the type's traits.

use proc_macro::TokenStream;
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{FnArg, ItemFn};

/// Makes a function the task of its crate. Use it as `#[muster::task]`; see the crate `muster`.
///
/// The function takes one argument and returns a value: bytes, text, or any type that serde supports, as JSON.
/// It stays an ordinary function, so tests call it by its name. A crate has one task: a second one fails to
/// link, because both would be the component's `run`.
#[proc_macro_attribute]
pub fn task(attribute: TokenStream, item: TokenStream) -> TokenStream {
    expand(attribute.into(), item.into()).unwrap_or_else(syn::Error::into_compile_error).into()
}

fn expand(
    attribute: proc_macro2::TokenStream,
    item: proc_macro2::TokenStream,
) -> syn::Result<proc_macro2::TokenStream> {
    if !attribute.is_empty() {
        return Err(syn::Error::new_spanned(attribute, "`#[muster::task]` takes no arguments"));
    }
    let function: ItemFn = syn::parse2(item)?;
    check(&function)?;

    let name = &function.sig.ident;
    // The call has the span of the signature, so that the compiler reports an unsuitable type there and
    // not at the attribute.
    let call = quote_spanned! {function.sig.span()=>
        ::muster::__call!(#name, input)
    };
    Ok(quote! {
        #function

        // Also on a native build, where nothing is exported: the types are checked and the function
        // counts as used.
        #[allow(dead_code)]
        const _: () = {
            fn run(
                input: ::std::vec::Vec<u8>,
            ) -> ::std::result::Result<::std::vec::Vec<u8>, ::std::string::String> {
                #call
            }

            #[cfg(target_family = "wasm")]
            struct Task;

            #[cfg(target_family = "wasm")]
            impl ::muster::__private::Guest for Task {
                fn run(
                    input: ::std::vec::Vec<u8>,
                ) -> ::std::result::Result<::std::vec::Vec<u8>, ::std::string::String> {
                    run(input)
                }
            }

            #[cfg(target_family = "wasm")]
            ::muster::__private::export_task!(Task with_types_in ::muster::__private);
        };
    })
}

/// Refuses, with a clear message, functions that would otherwise fail inside the expansion.
fn check(function: &ItemFn) -> syn::Result<()> {
    let signature = &function.sig;
    let refuse = |span: proc_macro2::Span, why: &str| Err(syn::Error::new(span, why));
    if let Some(keyword) = &signature.asyncness {
        return refuse(keyword.span, "a task is not async: it has a whole instance to itself");
    }
    if let Some(keyword) = &signature.unsafety {
        return refuse(keyword.span, "a task is a safe function: anyone may submit its input");
    }
    if !signature.generics.params.is_empty() {
        return refuse(
            signature.generics.span(),
            "a task has one input type: it cannot be generic",
        );
    }
    match signature.inputs.len() {
        1 => {}
        0 => {
            return refuse(
                signature.paren_token.span.join(),
                "a task takes its input: write `_: ()` for a task that has none",
            );
        }
        _ => {
            return refuse(
                signature.inputs.span(),
                "a task takes one input: gather the values in a struct, which is taken as JSON",
            );
        }
    }
    match signature.inputs.first() {
        Some(FnArg::Receiver(receiver)) => {
            refuse(receiver.span(), "a task is a free function: it has no `self`")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use quote::quote;

    use super::expand;

    #[test]
    fn what_is_not_a_task_is_refused_in_words() {
        let rows = [
            ("async fn t(input: Vec<u8>) {}", "not async"),
            ("unsafe fn t(input: Vec<u8>) {}", "safe function"),
            ("fn t<T>(input: T) {}", "cannot be generic"),
            ("fn t() {}", "takes its input"),
            ("fn t(a: u8, b: u8) {}", "one input"),
            ("fn t(&self) {}", "no `self`"),
            ("struct T;", "fn"),
        ];
        for (item, word) in rows {
            let tokens = item.parse().expect("tokens");
            let error = expand(quote!(), tokens).expect_err("refused").to_string();
            assert!(error.contains(word), "{item}: {error}");
        }
        let error = expand(
            quote!(name = "x"),
            quote!(
                fn t(input: Vec<u8>) {}
            ),
        );
        assert!(error.expect_err("refused").to_string().contains("no arguments"));
    }

    #[test]
    fn the_function_itself_is_left_as_it_is() {
        let item = quote!(
            pub fn t(input: Vec<u8>) -> Vec<u8> {
                input
            }
        );
        let expanded = expand(quote!(), item.clone()).expect("a task").to_string();
        assert!(expanded.starts_with(&item.to_string()), "{expanded}");
    }
}

// A plain WASI command. It must never need more than Go's own library.
module wordcount

go 1.24

;; Declares a table of a billion elements.
;; in: module
;; ends: rejected minimum element size
(module (table 1000000000 funcref) (func (export "_start")))

;; Is no bytes at all.
;; in: bytes
;; ends: rejected it is empty


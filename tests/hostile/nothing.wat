;; Is empty.
;; in: bytes
;; ends: rejected it is empty


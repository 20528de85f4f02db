;; Declares a section of four gigabytes, but contains fewer bytes.
;; in: bytes
;; ends: rejected unexpected end
00 61 73 6d 01 00 00 00 01 ff ff ff ff 0f 60

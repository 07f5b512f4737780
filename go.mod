module github.com/agentd-go/agentd

go 1.26.0

require (
	github.com/fxamacker/cbor/v2 v2.9.0 // indirect
	github.com/klauspost/compress v1.20.3 // indirect
	github.com/ulikunitz/xz v0.5.17 // indirect
	github.com/x448/float16 v0.8.4 // indirect
	golang.org/x/sys v0.49.0 // indirect
)

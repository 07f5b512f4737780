module github.com/agentd-go/agentd

go 1.26

package mux

// TurnPatience is exported for tests.
const TurnPatience = turnPatience

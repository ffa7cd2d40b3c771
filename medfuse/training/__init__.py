"""How guides are trained: losses, data, loop, recipes."""

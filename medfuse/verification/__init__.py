"""Is a result, or another tool's picture, what it says it is?"""

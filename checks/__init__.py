"""
What is wrong with a running cluster: readings of its hosts, a table of checks that judge them, and
what is the cause of what. No host is asked here.
"""

"""Workers: processes that train several runs at a time on one machine, and their scheduler."""

package esnode

const crashDirVariable = "RAPPORT_TEST_CRASH_DIR"

func runCrashChild(string) int { return 0 }

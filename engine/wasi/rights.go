//go:build linux

package wasi

// Rights of a descriptor (WASI preview 1, typenames, rights).
const (
	rightDatasync uint64 = 1 << iota
	rightRead
	rightSeek
	rightFdstatSetFlags
	rightSync
	rightTell
	rightWrite
	rightAdvise
	rightAllocate
	rightPathCreateDirectory
	rightPathCreateFile
	rightPathLinkSource
	rightPathLinkTarget
	rightPathOpen
	rightReaddir
	rightPathReadlink
	rightPathRenameSource
	rightPathRenameTarget
	rightPathFilestatGet
	rightPathFilestatSetSize
	rightPathFilestatSetTimes
	rightFilestatGet
	rightFilestatSetSize
	rightFilestatSetTimes
	rightPathSymlink
	rightPathRemoveDirectory
	rightPathUnlinkFile
	rightPoll
	rightSockShutdown
	rightSockAccept
)

const (
	rightsStream   = rightRead | rightWrite | rightFdstatSetFlags | rightFilestatGet | rightPoll | rightSockShutdown
	rightsListener = rightSockAccept | rightFdstatSetFlags | rightFilestatGet | rightPoll
	rightsFile     = rightDatasync | rightRead | rightSeek | rightFdstatSetFlags | rightSync | rightTell | rightWrite |
		rightAdvise | rightAllocate | rightFilestatGet | rightFilestatSetSize | rightFilestatSetTimes | rightPoll
	rightsDir = rightFdstatSetFlags | rightSync | rightAdvise | rightPathCreateDirectory | rightPathCreateFile |
		rightPathLinkSource | rightPathLinkTarget | rightPathOpen | rightReaddir | rightPathReadlink |
		rightPathRenameSource | rightPathRenameTarget | rightPathFilestatGet | rightPathFilestatSetSize |
		rightPathFilestatSetTimes | rightFilestatGet | rightFilestatSetTimes | rightPathSymlink |
		rightPathRemoveDirectory | rightPathUnlinkFile | rightPoll
)

// Flags of a descriptor, of path_open and of times.
const (
	flagAppend   uint16 = 1 << 0
	flagDsync    uint16 = 1 << 1
	flagNonblock uint16 = 1 << 2
	flagRsync    uint16 = 1 << 3
	flagSync     uint16 = 1 << 4

	oflagCreate    = 1 << 0
	oflagDirectory = 1 << 1
	oflagExcl      = 1 << 2
	oflagTrunc     = 1 << 3

	timeAtim    = 1 << 0
	timeAtimNow = 1 << 1
	timeMtim    = 1 << 2
	timeMtimNow = 1 << 3
)

-- Threads, channels, transactions' little brother MVar, timeouts, a child process.
import Control.Concurrent
import Control.Exception
import Control.Monad
import System.Exit
import System.IO
import System.Process
import System.Timeout

main :: IO ()
main = do
  hSetBuffering stdout LineBuffering
  total <- newMVar (0 :: Int)
  done <- newEmptyMVar
  forM_ [1 .. 20] $ \n -> forkIO (replicateM_ 50 (modifyMVar_ total (pure . (+ n)) >> yield) >> putMVar done ())
  replicateM_ 20 (takeMVar done)
  readMVar total >>= print
  channel <- newChan
  _ <- forkIO (mapM_ (writeChan channel) [1 .. 100 :: Integer])
  replicateM 100 (readChan channel) >>= print . sum
  timeout 20000 (threadDelay 5000000) >>= print
  timeout 20000 (evaluate (length [1 .. 1000 :: Int])) >>= print
  readProcess "tr" ["a-z", "A-Z"] "from haskell\n" >>= putStr
  caught <- try (evaluate (1 `div` (0 :: Int))) :: IO (Either ArithException Int)
  print caught
  stuck <- try (newEmptyMVar >>= \m -> takeMVar (m :: MVar ())) :: IO (Either BlockedIndefinitelyOnMVar ())
  print stuck
  exitWith (ExitFailure 4)
